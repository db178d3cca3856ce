"""A model for batches: one bash block for a task, then an answer that names it. It goes on wherever it is told from."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from agentd.protocols import ModelEvent, ModelFinish, ModelText
from agentd.types import Usage

__all__ = ["BatchModel"]


class BatchModel:
    """Answers `done: TASK` after a block.

    :param command: the block; `{task}` in it is the task's text.
    :param said: its answer, likewise.
    :param failures: how many of its requests raise first.
    :param price: of a request, in US dollars.
    """

    name = "batch"

    def __init__(
        self, command: str = "", *, said: str = "done: {task}", failures: int = 0, price: float | None = None
    ) -> None:
        self.command = command
        self.said = said
        self.failures = failures
        self.price = price
        self.told: list[tuple[str, str]] = []

    def reset(self) -> None:
        self.told.clear()

    def start(self, instructions: str) -> None: ...

    def add_task(self, text: str) -> None:
        self.told.append(("task", text))

    def add_answer(self, text: str) -> None:
        self.told.append(("answer", text))

    def add_results(self, text: str) -> None:
        self.told.append(("results", text))

    @asynccontextmanager
    async def stream(self) -> AsyncIterator[AsyncIterator[ModelEvent]]:
        yield self._events()

    async def _events(self) -> AsyncIterator[Any]:
        if self.failures > 0:
            self.failures -= 1
            raise RuntimeError("the provider is not there")
        task = next(text for role, text in self.told if role == "task").partition("\n")[0]
        has_results = any(role == "results" for role, _ in self.told)
        if self.command and not has_results:
            yield ModelText(f"```bash:execute\n{self.command.format(task=task)}\n```\n")
        else:
            yield ModelText(self.said.format(task=task))
        usage = Usage(input_tokens=100, output_tokens=10, requests=1, cost_usd=self.price)
        yield ModelFinish(reason="stop", usage=usage)

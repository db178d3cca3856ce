"""Models for tests of a fleet: they travel to hosts, and go on from whatever conversation they are told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
from agentd.protocols import ModelEvent, ModelFinish, ModelText
from agentd.types import Usage

__all__ = ["StepModel", "bash"]


def bash(code: str) -> str:
    return f"```bash:execute\n{code}\n```\n"


class StepModel:
    """Answers by how many results it was given since the last task: `steps[0]` first, then `steps[1]`, then `done`.

    A step may be a text, or a function of the conversation (pairs of a role and a text) that returns one.

    :param pause_s: waits that long before each answer.
    """

    name = "steps"

    def __init__(self, *steps: Any, done: str = "done", pause_s: float = 0.0) -> None:
        self.steps = steps
        self.done = done
        self.pause_s = pause_s
        self.messages: list[tuple[str, str]] = []

    def start(self, instructions: str) -> None:
        self.messages = [("system", instructions)]

    def reset(self) -> None:
        self.messages = []

    def add_task(self, text: str) -> None:
        self.messages.append(("task", text))

    def add_answer(self, text: str) -> None:
        self.messages.append(("answer", text))

    def add_results(self, text: str) -> None:
        self.messages.append(("results", text))

    @asynccontextmanager
    async def stream(self) -> AsyncIterator[AsyncIterator[ModelEvent]]:
        yield self._events()

    async def _events(self) -> AsyncIterator[ModelEvent]:
        if self.pause_s:
            await anyio.sleep(self.pause_s)
        done = 0
        for role, text in self.messages:  # a task that goes on elsewhere is the same task
            if role == "task" and "Go on with the task" not in text:
                done = 0
            done += role == "results"
        step = self.steps[done] if done < len(self.steps) else self.done
        text = step(self.messages) if callable(step) else step
        yield ModelText(text)
        yield ModelFinish(reason="stop", usage=Usage(input_tokens=100, output_tokens=10, requests=1))

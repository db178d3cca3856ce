"""Test doubles: a model that says what a script says, and an executor that records and obeys a test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
from agentd.protocols import ModelEvent, ModelFinish, ModelText, ModelToolCall
from agentd.types import Action, ActionResult, BashAction, CreateAction, OutputChunk, PythonAction, Usage

__all__ = ["CallingModel", "RecordingExecutor", "ScriptModel", "source_of"]


class ScriptModel:
    """Each answer of the script is a text (cut into pieces), or a list of texts and of exceptions to
    raise."""

    name = "script"

    def __init__(self, *answers: Any, piece: int = 3, finish: str = "stop", repeat: bool = False) -> None:
        self.answers = list(answers)
        self.piece = piece
        self.finish = finish
        self.repeat = repeat
        self.messages: list[tuple[str, str]] = []
        self.read = 0
        self.closed_early = 0
        self.requests = 0

    def start(self, instructions: str) -> None:
        self.messages.append(("system", instructions))

    def add_task(self, text: str) -> None:
        self.messages.append(("user", text))

    def add_answer(self, text: str) -> None:
        self.messages.append(("assistant", text))

    def add_results(self, text: str) -> None:
        self.messages.append(("results", text))

    @property
    def results(self) -> list[str]:
        return [text for role, text in self.messages if role == "results"]

    @property
    def said(self) -> list[str]:
        return [text for role, text in self.messages if role == "assistant"]

    @asynccontextmanager
    async def stream(self) -> AsyncIterator[AsyncIterator[ModelEvent]]:
        self.requests += 1
        answer = self.answers[0] if self.repeat else self.answers.pop(0)
        async with aclosing(self._events(answer)) as events:
            yield events

    async def _events(self, answer: Any) -> AsyncIterator[ModelEvent]:
        finished = False
        try:
            for part in [answer] if isinstance(answer, str) else answer:
                if isinstance(part, Exception):
                    raise part
                if callable(part):
                    await part()
                    continue
                for start in range(0, len(part), self.piece):
                    text = part[start : start + self.piece]
                    self.read += len(text)
                    yield ModelText(text)
            finished = True
            yield ModelFinish(reason=self.finish, usage=Usage(input_tokens=100, output_tokens=10, requests=1))
        finally:
            self.closed_early += not finished


def source_of(action: Action) -> str:
    if isinstance(action, BashAction):
        return action.command.strip()
    if isinstance(action, PythonAction):
        return action.code.strip()
    assert isinstance(action, CreateAction)
    return action.path


class CallingModel(ScriptModel):
    """Calls a tool natively in its first answer, and goes on with its script then.

    :param arguments: JSON.
    """

    def __init__(self, tool: str, arguments: str, *answers: Any) -> None:
        super().__init__("", *answers)
        self._call = ModelToolCall(id="c1", name=tool, arguments=arguments)

    def offer(self, tools: Any) -> None: ...

    def add_tool_results(self, results: Any) -> None:
        self.messages += [("results", r.output) for r in results]

    def add_answer(self, text: str, calls: Any = ()) -> None: ...

    async def _events(self, answer: Any) -> AsyncIterator[Any]:
        if self.requests == 1:
            yield self._call
            yield ModelFinish(reason="tool_calls")
        else:
            async for event in super()._events(answer):
                yield event


class RecordingExecutor:
    """Runs nothing. `behave(source, emit)` is awaited for each action and may return a result."""

    def __init__(self, workspace_dir: Path, behave: Callable[..., Any] | None = None) -> None:
        self.workspace_dir = workspace_dir
        self.behave = behave
        self.log: list[tuple[str, str]] = []
        self.closed = False

    async def start(self) -> None:
        pass

    async def run(self, action: Action, *, action_id: str = "", on_output: Any = None) -> ActionResult:
        source = source_of(action)
        self.log.append(("start", source))
        result = None
        try:
            if self.behave is not None:

                def emit(data: bytes, stream: Any = "stdout") -> None:
                    on_output(OutputChunk(stream, data))

                result = await self.behave(source, emit)
        except anyio.get_cancelled_exc_class():
            self.log.append(("cancelled", source))
            raise
        self.log.append(("end", source))
        return result or ActionResult(
            status="completed", exit_code=0, chunks=(OutputChunk("stdout", source.encode()),)
        )

    def attach(self, *, tools: Any, layout: Any) -> None:
        pass

    async def aclose(self) -> None:
        self.closed = True

    def close(self) -> None:
        self.closed = True

"""A model provider plugin: the model `echo`, which does what it is told in words that it can read, offline.

[project.entry-points."agentd.models"]
echo = "model_echo"

A line `run COMMAND` of a task makes it write a bash block in the notation that its prompt teaches, a line
`call NAME {...}` makes it call a tool. What comes of it is its next answer; any other task is said again.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

from agentd.errors import ModelError
from agentd.hookspecs import hookimpl
from agentd.protocols import ModelEvent, ModelFinish, ModelText, ModelToolCall, ToolOffer, ToolResult
from agentd.registry.options import check_options
from agentd.types import Usage

AGENTD_API = 1

ORDER = re.compile(r"^(run|call) (.+)$", re.MULTILINE)

OPTIONS = {
    "base_url": str | None,
    "api_key": str | None,
    "api": str,
    "request": dict,
    "prices": dict | None,
    "shout": bool,
}


class EchoModel:
    """One conversation. It keeps its messages as it likes: nobody else reads them."""

    def __init__(self, name: str, *, shout: bool = False) -> None:
        self.name = name
        self._shout = shout
        self.reset()

    # --- what it is told ---------------------------------------------------------------------------

    def reset(self) -> None:
        self._instructions = ""
        self._said: list[tuple[str, str]] = []
        self._offered: list[str] = []

    def start(self, instructions: str) -> None:
        self._instructions = instructions

    def offer(self, tools: Sequence[ToolOffer]) -> None:
        self._offered = [tool.name for tool in tools]

    def add_task(self, text: str) -> None:
        self._said.append(("task", text))

    def add_answer(self, text: str, calls: Sequence[ModelToolCall] = ()) -> None:
        self._said.append(("answer", text))

    def add_results(self, text: str) -> None:
        self._said.append(("results", text))

    def add_tool_results(self, results: Sequence[ToolResult]) -> None:
        self._said.append(("results", "\n".join(result.output for result in results)))

    # --- what it says ------------------------------------------------------------------------------

    @asynccontextmanager
    async def stream(self) -> AsyncIterator[AsyncIterator[ModelEvent]]:
        if not self._said:
            raise ModelError(f"model {self.name!r}: there is nothing to answer; give it a task")
        async with aclosing(self._events()) as events:  # a session may leave in the middle
            yield events

    async def _events(self) -> AsyncGenerator[ModelEvent, None]:
        kind, text = self._said[-1]
        order = ORDER.search(text) if kind == "task" else None
        verb, rest = order.groups() if order else ("", "")
        answer = self._answer(verb, rest, text)
        for word in re.findall(r"\s*\S+|\s+$", answer):  # as a provider streams: in pieces
            yield ModelText(word)
        if verb == "call":
            name, _, arguments = rest.partition(" ")
            yield ModelToolCall(id=f"call_{len(self._said)}", name=name, arguments=arguments or "{}")
        words = sum(len(said.split()) for _, said in self._said)
        yield ModelFinish(
            reason="stop",
            usage=Usage(input_tokens=words, output_tokens=len(answer.split()), requests=1),
        )

    def _answer(self, verb: str, rest: str, text: str) -> str:
        if verb == "call":
            return "I call it."
        if verb == "run":
            return f"I run it.\n\n{self._block(rest)}\n"
        quoted = "".join(
            f"| {line}\n" for line in text.strip().splitlines()
        )  # so that nothing of it is a block
        return f"I read:\n\n{quoted.upper() if self._shout else quoted}"

    def _block(self, command: str) -> str:
        """Fill in the form of a bash block: the paragraph of the prompt that has its place."""
        for paragraph in self._instructions.split("\n\n"):
            filled, places = re.subn(r"\bCOMMANDS?\b", lambda _: command, paragraph)
            if places:
                return filled
        return f"Nobody has told me how to run {command!r}."


@hookimpl
def agentd_open_model(name: str, options: Mapping[str, Any]) -> EchoModel | None:
    if name.partition("/")[0] != "echo":
        return None  # not ours: say so before looking at the options
    check_options(f"the model {name!r}", options, OPTIONS)
    check_options(f"the requests of the model {name!r}", options.get("request", {}), {"temperature": float})
    return EchoModel(name, shout=options.get("shout", False))

"""The model of a client's sandbox: it says the one block that the client has given, and then nothing.

What it says is in no notation that a model is taught: the header, a line feed, and the client's text to its last
character.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from agentd.notation import Notation
from agentd.protocols import ModelEvent, ModelFinish, ModelText, ModelToolCall, ToolOffer, ToolResult
from agentd.registry import Registry
from agentd.registry.options import PluginSpec
from agentd.types import Block, Segment

__all__ = ["GivenModel", "GivenParser", "GivenRegistry", "as_block"]


def as_block(header: str, code: str) -> str:
    """Return what `GivenParser` reads as a block. The header may have no line break."""
    return f"{header}\n{code}"


class GivenParser:
    """Reads an answer of a `GivenModel`: one block, whatever is in its text; nothing can close it, or begin another.
    Only the end of the answer ends it. An answer of one line is none."""

    def __init__(self) -> None:
        self._pieces: list[str] = []

    def feed(self, text: str) -> Sequence[Segment]:
        """Take the next characters."""
        self._pieces.append(text)
        return ()

    def close(self) -> Sequence[Segment]:
        """Return all of the answer."""
        text = "".join(self._pieces)
        header, is_block, source = text.partition("\n")
        if not is_block:
            return [Segment("prose", text, 0, len(text))] if text else []
        target, _, action = header.rpartition(":")
        return [Segment("block", text, 0, len(text), Block.of(target, action, source))]


_NOTATION: Final = Notation(
    guide="The client's calls are the blocks.",
    forms="run_bash, run_python and create_file",
    parser=GivenParser,
)


class GivenRegistry(Registry):
    """The installed plugins, but for parsers."""

    def create_notations(self, names: Sequence[PluginSpec] | None = None) -> list[Notation]:
        """Return the notation of a sandbox."""
        return [_NOTATION]


class GivenModel:
    """An MCP client is the model: its calls come one by one, and each is an answer of one block."""

    name = "mcp-client"

    def __init__(self) -> None:
        self._answer = "Done."
        self.results: list[str] = []
        """What a model would read about the block."""
        self.pictures: list[tuple[str, str]] = []
        """What it would see of it: each picture's media type, and the file as base64."""

    def give(self, answer: str) -> None:
        """Say this next."""
        self._answer = answer
        self.results.clear()
        self.pictures.clear()

    def start(self, instructions: str) -> None: ...

    def offer(self, tools: Sequence[ToolOffer]) -> None: ...

    def add_task(self, text: str) -> None: ...

    def add_answer(self, text: str, calls: Sequence[ModelToolCall] = ()) -> None: ...

    def add_results(self, text: str) -> None:
        self.results.append(text)

    def add_parts(self, parts: Sequence[dict[str, Any]]) -> None:
        for part in parts:
            if part["type"] == "text":
                self.results.append(part["text"])
            else:
                head, _, data = part["image_url"]["url"].partition(";base64,")
                self.pictures.append((head.removeprefix("data:"), data))

    def add_tool_results(self, results: Sequence[ToolResult]) -> None: ...

    def reset(self) -> None: ...

    @asynccontextmanager
    async def stream(self) -> AsyncIterator[AsyncIterator[ModelEvent]]:
        yield self._events()

    async def _events(self) -> AsyncIterator[ModelEvent]:
        answer, self._answer = self._answer, "Done."  # which ends the run
        yield ModelText(answer)
        yield ModelFinish(reason="stop")

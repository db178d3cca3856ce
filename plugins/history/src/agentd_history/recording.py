"""A model that keeps a record of what it was told, so that it can be told again, otherwise."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from agentd.errors import ConfigError
from agentd.protocols import (
    EstimatingModel,
    Model,
    ModelEvent,
    ModelToolCall,
    OwnedModel,
    PreparingModel,
    PricedModel,
    ResettableModel,
    SchemaModel,
    ToolOffer,
    ToolResult,
)
from agentd.turn.transcript import Message, NativeCall, Transcript
from agentd.types import Usage

__all__ = ["RecordingModel"]


class RecordingModel:
    """Passes everything on to a model, and keeps it. `tell_again` tells that model something else instead."""

    def __init__(self, inner: Model) -> None:
        self._inner = inner
        self.name = inner.name
        self._instructions = ""
        self._offered: Sequence[ToolOffer] = ()
        self._told = Transcript()

    # --- the conversation ------------------------------------------------------------------------------

    def _note(self, message: Message) -> None:
        """Take notice of a message that the model was told."""
        self._told.messages.append(message)

    def start(self, instructions: str) -> None:
        """Set the system prompt, which is never forgotten."""
        self._instructions = instructions
        self._inner.start(instructions)

    def offer(self, tools: Sequence[ToolOffer]) -> None:
        """Offer these tools from now on."""
        if not hasattr(self._inner, "offer"):
            raise ConfigError(f"model: {self.name!r} has no offer(), which native tool calls need")
        self._offered = tools
        self._inner.offer(tools)

    def add_task(self, text: str) -> None:
        """Append what the person says."""
        self._inner.add_task(text)
        self._note(Message("task", text))

    def add_parts(self, parts: Sequence[dict[str, Any]]) -> None:
        """Append what the person says in parts. Raises `ConfigError` for a model that takes text alone."""
        message = Message.of_task(list(parts))
        message.tell_task(self._inner)
        self._note(message)

    def add_answer(self, text: str, calls: Sequence[ModelToolCall] = ()) -> None:
        """Append what the model said."""
        if calls:
            self._inner.add_answer(text, calls)
        else:
            self._inner.add_answer(text)
        made = tuple(NativeCall(id=c.id, name=c.name, arguments=c.arguments) for c in calls)
        self._note(Message("answer", text, made))

    def add_results(self, text: str) -> None:
        """Append what the blocks gave."""
        self._inner.add_results(text)
        self._note(Message("results", text))

    def add_tool_results(self, results: Sequence[ToolResult]) -> None:
        """Append what the calls gave."""
        self._inner.add_tool_results(results)
        self._note_results(results)

    def _note_results(self, results: Sequence[ToolResult]) -> None:
        names = {c.id: c.name for m in self._told.messages[-1:] for c in m.calls}
        given = tuple(
            NativeCall(id=r.call_id, name=names.get(r.call_id, ""), output=r.output) for r in results
        )
        self._note(Message("results", "", given))

    def reset(self) -> None:
        """Forget what was said, the system prompt too. Raises `ConfigError` if the model cannot."""
        if not isinstance(self._inner, ResettableModel):
            raise ConfigError(f"model: {self.name!r} cannot forget: it has no reset()")
        self._inner.reset()
        self._told = Transcript()

    def tell_again(self, transcript: Transcript) -> None:
        """Have the model forget everything, and tell it this. Raises `ConfigError` if it cannot forget."""
        self.reset()
        if self._instructions:
            self._inner.start(self._instructions)
        if self._offered:
            self._inner.offer(self._offered)
        transcript.replay(self, native=bool(self._offered))
        self._told = transcript

    # --- the requests ------------------------------------------------------------------------------------

    @asynccontextmanager
    async def stream(self) -> AsyncIterator[AsyncIterator[ModelEvent]]:
        """Ask for the next answer; see `agentd.protocols.Model`."""
        async with self._inner.stream() as events:
            yield events

    # --- what else the model may have ----------------------------------------------------------------------

    def estimate(self, text: str) -> Usage:
        """Return the model's guess, or 4 characters a token."""
        if isinstance(self._inner, EstimatingModel):
            return self._inner.estimate(text)
        return Usage(output_tokens=len(text) // 4, requests=1)

    def hold_to_schema(self, schema: Mapping[str, Any] | None) -> None:
        """Hold the next answers to a JSON Schema, where the provider can."""
        if isinstance(self._inner, SchemaModel):
            self._inner.hold_to_schema(schema)

    @property
    def apart(self) -> Any:
        """What opens another conversation over the same client, if the model has that; see agentd-subagents."""
        return getattr(self._inner, "apart", None)

    def next_cost_usd(self) -> float | None:
        """Return what the model says, if it knows its price."""
        return self._inner.next_cost_usd() if isinstance(self._inner, PricedModel) else None

    async def prepare(self) -> None:
        """Do what the model can do before its first request."""
        if isinstance(self._inner, PreparingModel):
            await self._inner.prepare()

    async def aclose(self) -> None:
        """Close what the model holds."""
        if isinstance(self._inner, OwnedModel):
            await self._inner.aclose()

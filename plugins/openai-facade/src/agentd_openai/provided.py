"""A model of a provider plugin behind a patched client: its events become the SDK's own objects.

A provider that has only `agentd_open_model` knows nothing of the SDK: its `Model` yields text, calls and an end. Here
it is told the caller's conversation, and `ChatWire` or `ResponsesWire` makes the objects that the caller gets.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

import attrs
from agentd.errors import ConfigError
from agentd.protocols import (
    EstimatingModel,
    Model,
    ModelEvent,
    ModelFinish,
    ModelText,
    ModelToolCall,
    OwnedModel,
    PartsModel,
    PreparingModel,
    PricedModel,
    ResettableModel,
    ToolOffer,
    ToolResult,
)
from agentd.types import Usage
from agentd_model_openai import ChatModel, ResponsesModel
from agentd_model_openai.failure import unfinished

from agentd_openai.provided_arguments import own_offers, refuse_unknown
from agentd_openai.replay import said_in_chat, said_in_responses, tell
from agentd_openai.wire_chat import ChatWire
from agentd_openai.wire_responses import ResponsesWire

__all__ = ["ProvidedModel", "provided_model"]


def provided_model(
    inner: Model,
    api: str,
    arguments: Mapping[str, Any],
    conversation: Any,
    *,
    streamed: bool,
    first: int = 0,
) -> ProvidedModel:
    """Return the provider's new model, told the caller's conversation.

    :param arguments: what the caller passed, without the conversation.
    :param conversation: the messages of chat completions, or the input of the responses API.
    :param first: the number of the first message, for errors.
    :raises ConfigError: for an argument or a message that cannot be carried.
    """
    refuse_unknown(inner.name, arguments)
    own = own_offers(arguments.get("tools") or (), inner.name)
    if own and not hasattr(inner, "offer"):
        raise ConfigError(f"tools: the model {inner.name!r} calls no tools natively; leave them out")
    record: ChatModel | ResponsesModel
    pictures = isinstance(inner, PartsModel)
    if api == "responses":
        tell(inner, said_in_responses(arguments.get("instructions"), conversation, pictures=pictures))
        record = ResponsesModel(inner.name, input=conversation)
    else:
        tell(inner, said_in_chat(conversation, first=first, pictures=pictures))
        record = ChatModel(inner.name, messages=conversation)
    made = ProvidedModel(inner, record, own, streamed=streamed)
    made.instructions = arguments.get("instructions")
    return made


class ProvidedModel:
    """The provider's model with the members that a call of the facade needs.

    :param inner: the provider's, told the conversation.
    :param record: keeps the conversation in the API's own form; it asks nothing.
    :param own: the caller's own tools.
    """

    def __init__(
        self,
        inner: Model,
        record: ChatModel | ResponsesModel,
        own: Sequence[ToolOffer] = (),
        *,
        streamed: bool,
    ) -> None:
        self.name = inner.name
        self.response = None
        """The HTTP response, which a provider plugin does not show."""
        self.instructions: object = None
        """Those of the responses API."""
        self._inner = inner
        self._record = record
        self._own = list(own)
        self._streamed = streamed
        self._prepared = False
        self._offered: Sequence[ToolOffer] = ()
        self._given: dict[str, ModelToolCall] = {}  # the provider's own form of the last answer's calls

    # --- the conversation, in both forms ---------------------------------------------------------------

    @property
    def messages(self) -> list[Any]:
        """The conversation as chat completions have it."""
        assert isinstance(self._record, ChatModel)
        return self._record.messages

    @property
    def input(self) -> list[Any]:
        """The conversation as the responses API has it."""
        assert isinstance(self._record, ResponsesModel)
        return self._record.input

    def start(self, instructions: str) -> None:
        """The caller's conversation has been told already: see `provided_model`."""
        raise AssertionError("a patched client tells the instructions with the conversation")

    def offer(self, tools: Sequence[ToolOffer]) -> None:
        """Offer these tools and the caller's own."""
        every = [*self._own, *tools]
        if not every:
            return
        if not hasattr(self._inner, "offer"):
            raise ConfigError(
                f"the model {self.name!r} calls no tools natively; let it write code "
                "(ptc_enabled=True, without bash_tool)"
            )
        self._offered = every
        self._inner.offer(every)

    def retell(self, items: Sequence[Any]) -> None:
        """Have this conversation, in the API's own form, in place of all that was said.

        :raises ConfigError: if the provider's model cannot forget (`reset`).
        """
        if not isinstance(self._inner, ResettableModel):
            raise ConfigError(f"history: the model {self.name!r} cannot forget: it has no reset()")
        self._inner.reset()
        if self._offered:
            self._inner.offer(self._offered)
        if isinstance(self._record, ChatModel):
            tell(self._inner, said_in_chat(items, pictures=self.takes_parts))
        else:
            tell(self._inner, said_in_responses(self.instructions, items, pictures=self.takes_parts))
        self._record.retell(items)
        self._given = {}

    def hold_to(self, arguments: Mapping[str, Any]) -> None:
        """The provider has its options since it was opened: the model is told of its answer's form in words alone."""

    def add_task(self, text: str) -> None:
        """Append what the person says."""
        self._record.add_task(text)
        self._inner.add_task(text)

    def add_answer(self, text: str, calls: Sequence[ModelToolCall] = ()) -> None:
        """Append what the model said, with the calls that count."""
        self._record.add_answer(text, calls)
        self._inner.add_answer(text, [self._given.get(call.id, call) for call in calls])

    @property
    def takes_parts(self) -> bool:
        """Whether the provider's model can be told more than text."""
        return isinstance(self._inner, PartsModel)

    @property
    def can_forget(self) -> bool:
        """Whether it can be told the conversation anew."""
        return isinstance(self._inner, ResettableModel)

    def add_parts(self, parts: Sequence[dict[str, Any]]) -> None:
        """Append what the person says in parts, to a model that takes them."""
        assert isinstance(self._inner, PartsModel)
        self._record.add_parts(parts)
        self._inner.add_parts(parts)

    def add_results(self, text: str) -> None:
        """Append what the blocks gave."""
        self._record.add_results(text)
        self._inner.add_results(text)

    def add_tool_results(self, results: Sequence[ToolResult]) -> None:
        """Append what the calls gave."""
        self._record.add_tool_results(results)
        self._inner.add_tool_results(results)

    def estimate(self, text: str) -> Usage:
        """Return the provider's guess for an answer that was cut, or 4 characters a token."""
        if isinstance(self._inner, EstimatingModel):
            return self._inner.estimate(text)
        return Usage(output_tokens=len(text) // 4, requests=1)

    @property
    def apart(self) -> Any:
        """What opens another conversation over the same client, if the model has that; see agentd-subagents."""
        return getattr(self._inner, "apart", None)

    def next_cost_usd(self) -> float | None:
        """Return what the provider's model says, if it knows its price."""
        return self._inner.next_cost_usd() if isinstance(self._inner, PricedModel) else None

    async def aclose(self) -> None:
        """Close what the provider's model holds."""
        if isinstance(self._inner, OwnedModel):
            await self._inner.aclose()

    # --- the answers -----------------------------------------------------------------------------------

    @asynccontextmanager
    async def stream(self) -> AsyncIterator[AsyncIterator[ModelEvent]]:
        """Ask for the next answer; its events carry the SDK's objects."""
        if not self._prepared and isinstance(self._inner, PreparingModel):
            await self._inner.prepare()
        self._prepared = True
        self._given = {}
        made = ChatWire if isinstance(self._record, ChatModel) else ResponsesWire
        wire = made(self.name)
        async with self._inner.stream() as events:
            read = self._pieces(events, wire) if self._streamed else self._whole(events, wire)
            async with aclosing(read):
                yield read

    async def _pieces(
        self, events: AsyncIterator[ModelEvent], wire: ChatWire | ResponsesWire
    ) -> AsyncGenerator[ModelEvent, None]:
        for made in wire.begin():
            yield made
        finish: ModelFinish | None = None
        async for event in events:
            if isinstance(event, ModelFinish):
                finish = event  # told when everything else was: a provider may send it early
            elif isinstance(event, ModelToolCall):
                for made in wire.call(self._noted(event)):
                    yield made
            else:
                for made in wire.reasoning(event.reasoning) if event.reasoning else ():
                    yield made
                for made in wire.text(event.text) if event.text else ():
                    yield made
        if finish is None:
            raise unfinished(self.name, "ModelFinish", empty=False)
        for made in wire.finish(finish):
            yield made

    async def _whole(
        self, events: AsyncIterator[ModelEvent], wire: ChatWire | ResponsesWire
    ) -> AsyncGenerator[ModelEvent, None]:
        texts: list[str] = []
        thoughts: list[str] = []
        calls: list[ModelToolCall] = []
        finish: ModelFinish | None = None
        async for event in events:
            if isinstance(event, ModelFinish):
                finish = event
            elif isinstance(event, ModelToolCall):
                calls.append(self._noted(event))
            elif isinstance(event, ModelText):
                texts.append(event.text)
                thoughts.append(event.reasoning)
        if finish is None:
            raise unfinished(self.name, "ModelFinish", empty=not texts and not calls)
        for made in wire.whole("".join(texts), calls, finish, "".join(thoughts)):
            yield made

    def _noted(self, call: ModelToolCall) -> ModelToolCall:
        """Keep the provider's own form of a call, for `add_answer`, and see to it that it has an id."""
        named = call if call.id else attrs.evolve(call, id=f"call_{len(self._given) + 1}")
        self._given[named.id] = call
        return named

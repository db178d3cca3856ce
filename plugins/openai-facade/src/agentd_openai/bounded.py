"""A call's model that is told only what a history leaves of the conversation; the call's record keeps all of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, MutableMapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs
from agentd.protocols import Model, ModelEvent
from agentd.turn.transcript import Message, Transcript
from agentd_model_openai import ChatModel, ResponsesModel

from agentd_openai.pictured import PicturedModel
from agentd_openai.provided import ProvidedModel
from agentd_openai.told_items import CallerMessage, items_of, messages_of
from agentd_openai.wrapping import WrappingModel

__all__ = ["BoundedModel"]


class BoundedModel(WrappingModel[ChatModel | ResponsesModel | ProvidedModel | PicturedModel]):
    """Passes everything on to the model of a call, and has it forget where the history says so.

    The caller's messages are gone through as a session would have been told them, answer by answer. So a caller that
    sends the same ones again, and some more, is cut at the same places: the provider's cache holds.

    :param inner: has been told the caller's conversation.
    :param history: see `agentd_history.History`.
    :param open_model: makes a model that writes a summary.
    :param summaries: those that were written for this client.
    """

    def __init__(
        self,
        inner: ChatModel | ResponsesModel | ProvidedModel | PicturedModel,
        api: str,
        history: Any,
        *,
        open_model: Callable[[], Model],
        summaries: MutableMapping[str, str],
    ) -> None:
        super().__init__(inner, api)
        self._memory = history.memory(retell=self._retell, open_model=open_model, summaries=summaries)
        self._all = list(self._sent)
        self._first, self._pinned = messages_of(self._all)
        self._count = len(self._first)
        self._begun = False
        self._is_cut = False

    # --- the conversation ------------------------------------------------------------------------------

    def _added(self, told: int, role: str = "") -> None:
        """Note what was told since the model knew so many items. A user's message has this role."""
        items = self._sent[told:]
        self._all += items
        messages, pinned = messages_of(items, self._count)
        self._pinned += pinned
        self._count += len(messages)
        for message in messages:
            self._note(attrs.evolve(message, role=role) if role else message)

    def _note(self, message: CallerMessage) -> None:
        if self._begun:
            self._memory.note(message)
        else:
            self._first.append(message)

    # --- the requests ----------------------------------------------------------------------------------

    @asynccontextmanager
    async def stream(self) -> AsyncIterator[AsyncIterator[ModelEvent]]:
        """Ask for the next answer; see `agentd.protocols.Model`."""
        if not self._begun:
            await self._begin()
        async with self._memory.stream(self._inner) as events:
            yield events

    async def _begin(self) -> None:
        before = ""
        for message in self._first:
            if message.role == "answer" != before:  # there was a request here
                await self._memory.make_room()
            self._memory.note(message)
            before = message.role
        self._begun = True
        if self._is_cut:
            self._retell(self._memory.told)

    def _retell(self, transcript: Transcript) -> None:
        self._is_cut = True
        if self._begun:
            self._inner.retell(self._kept(transcript.messages))

    def _kept(self, messages: Sequence[Message]) -> list[Any]:
        """Return what is sent of the conversation: these messages, and between them all that is never forgotten."""
        items: list[Any] = []
        pinned = list(self._pinned)

        def pins(upto: int) -> None:
            while pinned and pinned[0][0] <= upto:
                items.append(pinned.pop(0)[1])

        pins(0)
        for message in messages:
            if isinstance(message, CallerMessage):
                pins(message.number)
            items.extend(items_of(message))
        pins(self._count)
        return items

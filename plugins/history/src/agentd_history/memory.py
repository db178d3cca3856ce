"""What a model was told, and how that becomes shorter: what sessions and patched clients have in common."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Protocol

from agentd.errors import ContextLengthError
from agentd.protocols import Model, ModelEvent
from agentd.turn.transcript import Message, Transcript

from agentd_history.bounding import tokens

__all__ = ["ConversationMemory", "Shortening", "remembered"]

log = logging.getLogger("agentd.history")

Summarise = Callable[[str], Awaitable[str]]
SUMMARIES = 256
"""How many summaries are kept for those who send the same conversation again."""


class Shortening(Protocol):
    """What decides how much is remembered: see `agentd_history.History`."""

    @property
    def max_tokens(self) -> int: ...

    @property
    def open_summariser(self) -> Callable[[], Model] | None: ...

    async def shorter(
        self,
        transcript: Transcript,
        *,
        summarise: Summarise | None = None,
        max_tokens: int | None = None,
    ) -> Transcript | None: ...


def remembered(summarise: Summarise, summaries: MutableMapping[str, str]) -> Summarise:
    """Return the same, but no summary is written twice while `summaries` has it, by a digest of its material."""

    async def known_or_new(text: str) -> str:
        key = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        said = summaries.pop(key, "") or await summarise(text)
        if said:
            summaries[key] = said  # the newest is the last
        while len(summaries) > SUMMARIES:
            del summaries[next(iter(summaries))]
        return said

    return known_or_new


class ConversationMemory:
    """What a model has been told, message by message.

    :param retell: has the model forget everything but its system prompt, and tells it this transcript.
    :param summarise: given instruction and material, returns a summary.
    """

    def __init__(
        self, history: Shortening, *, retell: Callable[[Transcript], None], summarise: Summarise
    ) -> None:
        self._history = history
        self._retell = retell
        self._summarise = summarise
        self.forget()

    def forget(self) -> None:
        """The model has been told nothing."""
        self.told = Transcript()
        self._tokens = 0

    def note(self, message: Message) -> None:
        """The model has been told this as well."""
        self.told.messages.append(message)
        self._tokens += tokens([message])

    async def make_room(self) -> None:
        """Have the model remember less if it was told too much for its next request."""
        if self._tokens > self._history.max_tokens:
            await self._shorten(None)

    @asynccontextmanager
    async def stream(self, model: Model) -> AsyncIterator[AsyncIterator[ModelEvent]]:
        """Ask the model for the next answer; see `agentd.protocols.Model`. A provider that finds the conversation too
        long is asked once more, with a shorter one."""
        await self.make_room()
        async with AsyncExitStack() as stack:
            try:
                events = await stack.enter_async_context(model.stream())
            except ContextLengthError as exc:  # its tokens are other than our estimate
                log.warning("%s", exc)
                if not await self._shorten(self._tokens - 1):
                    raise
                events = await stack.enter_async_context(model.stream())
            yield events

    async def _shorten(self, max_tokens: int | None) -> bool:
        """Have the model remember less, and tell whether that was possible."""
        shorter = await self._history.shorter(self.told, summarise=self._summarise, max_tokens=max_tokens)
        if shorter is None:
            return False
        self._retell(shorter)
        self.told, self._tokens = shorter, tokens(shorter.messages)
        return True

"""A call's model that is shown the pictures of results; the call's record keeps their lines of text alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import attrs
from agentd.protocols import ModelEvent, ModelToolCall, ToolResult
from agentd_model_openai import ChatModel, ResponsesModel
from agentd_model_openai.responses import responses_part

from agentd_openai.provided import ProvidedModel
from agentd_openai.told_items import result_text, with_text
from agentd_openai.wrapping import WrappingModel

__all__ = ["PicturedModel"]

OF_CALLS: Final = "The pictures of these results:"


@attrs.frozen
class _ResultSpot:
    """Results in a conversation: of blocks, one item; of native calls, all that stand together.

    :ivar first, last: the places of the first and the last item.
    """

    first: int
    last: int
    texts: tuple[str, ...]
    is_of_calls: bool


class PicturedModel(WrappingModel[ChatModel | ResponsesModel | ProvidedModel]):
    """Passes everything on to the model of a call. Where the line of a picture stands in results, be they of this call
    or of an earlier one that the caller sends again, the picture goes with it. So the caller gets text, and its own
    messages stay as they are.

    :param inner: has been told the caller's conversation.
    :param pictures: those of the client's resources; see `agentd_images.session`.
    :param where: the server's address.
    :param is_kept_there: the provider keeps the conversation and is sent only what is new.
    """

    def __init__(
        self,
        inner: ChatModel | ResponsesModel | ProvidedModel,
        api: str,
        pictures: Any,
        *,
        where: str,
        is_kept_there: bool = False,
    ) -> None:
        super().__init__(inner, api)
        self._is_kept_there = is_kept_there
        provided = inner if isinstance(inner, ProvidedModel) else None
        takes_parts = provided is None or provided.takes_parts
        self._can_forget = provided is None or provided.can_forget
        self._sight = pictures.sight(inner.name, takes_parts=takes_parts, where=where)
        self._spots: list[_ResultSpot] = []  # those with pictures that are shown
        self._old: set[int] = set()  # places of items whose pictures are no longer shown
        self._have(self._sent)

    # --- the conversation ------------------------------------------------------------------------------

    def retell(self, items: Sequence[Any]) -> None:
        """Have these items in place of all that was said."""
        self._inner.retell(items)
        self._have(items)

    def _have(self, items: Sequence[Any]) -> None:
        """Know these items, which the model was told without pictures, and tell it again if there are some."""
        self._all = list(items)
        self._spots, self._old = [], set()
        for spot in _spots(self._all):
            self._see(spot)
        told = self._told()
        if self._can_forget and list(map(id, told)) != list(map(id, items)):
            self._inner.retell(told)

    def _see(self, spot: _ResultSpot) -> bool:
        """Count the pictures of results. Return True if older ones are no longer shown: the older half, at once."""
        if not self._sight.count(spot.texts):
            return False
        self._sight.is_new = True
        self._spots.append(spot)
        most, before = self._sight.images.max_remembered, len(self._old)
        if self._shown() > most:
            while self._shown() > most // 2 and len(self._spots) > 1:
                old = self._spots.pop(0)
                self._old.update(range(old.first, old.last + 1))
        return len(self._old) > before

    def _shown(self) -> int:
        return sum(self._sight.count(spot.texts) for spot in self._spots)

    def _told(self) -> list[Any]:
        """Return what the model is told: the conversation, with the pictures that are shown."""
        shown = {spot.last: spot for spot in self._spots}
        told: list[Any] = []
        for place, item in enumerate(self._all):
            spot = shown.get(place)
            parts = [] if spot is None else self._sight.pictures(spot.texts)
            if spot is not None and parts and not spot.is_of_calls:
                told.append(self._of_parts([_text_part(self._sight.told_as(spot.texts[0])), *parts]))
                continue
            told.append(self._as_text(item, place))
            if parts:
                told.append(self._of_parts([_text_part(OF_CALLS), *parts]))
        return told

    def _as_text(self, item: Any, place: int) -> Any:
        text, is_of_call = result_text(item)
        if text is None:
            return item
        if place in self._old:
            text = self._sight.old(text)
        return with_text(item, self._sight.told_as(text, is_of_call=is_of_call))

    def _of_parts(self, parts: list[dict[str, Any]]) -> dict[str, Any]:
        content = parts if self._member == "messages" else [responses_part(part) for part in parts]
        return {"role": "user", "content": content}

    def _tell_again(self) -> None:
        self._inner.retell(self._told())

    def add_answer(self, text: str, calls: Sequence[ModelToolCall] = ()) -> None:
        """Append what the model said."""
        super().add_answer(text, calls)
        if self._is_kept_there:  # what was sent has been cleared
            self._all = list(self._sent)
            self._spots, self._old = [], set()

    def add_results(self, text: str) -> None:
        """Append what the blocks gave, with what they have shown."""
        spot = _ResultSpot(len(self._all), len(self._all), (text,), False)
        self._all.append({"role": "user", "content": text})
        is_over = self._see(spot)
        if parts := self._sight.pictures(spot.texts):
            self._inner.add_parts([_text_part(text), *parts])
        else:
            self._inner.add_results(self._sight.told_as(text))
        self._forget(is_over)

    def add_tool_results(self, results: Sequence[ToolResult]) -> None:
        """Append what the calls gave. No provider takes pictures there, so they follow in a message."""
        told, first = len(self._sent), len(self._all)
        self._inner.add_tool_results(results)
        self._all += self._sent[told:]
        spot = _ResultSpot(first, len(self._all) - 1, tuple(r.output for r in results), True)
        is_over = self._see(spot)
        if parts := self._sight.pictures(spot.texts):
            self._inner.add_parts([_text_part(OF_CALLS), *parts])
        self._forget(is_over)

    def _forget(self, is_over: bool) -> None:
        if is_over and self._can_forget:
            self._tell_again()

    # --- the requests ----------------------------------------------------------------------------------

    @asynccontextmanager
    async def stream(self) -> AsyncIterator[AsyncIterator[ModelEvent]]:
        """Ask for the next answer; a provider that refuses pictures is asked once more without."""
        again = self._tell_again if self._can_forget else None
        async with self._sight.stream(self._inner.stream, again) as events:
            yield events


def _spots(items: Sequence[Any]) -> Iterator[_ResultSpot]:
    """Find the results in a conversation."""
    outputs: list[str] = []
    for place, item in enumerate([*items, None]):
        text, is_of_call = (None, False) if item is None else result_text(item)
        if text is not None and is_of_call:
            outputs.append(text)
            continue
        if outputs:
            yield _ResultSpot(place - len(outputs), place - 1, tuple(outputs), True)
            outputs = []
        if text is not None:
            yield _ResultSpot(place, place, (text,), False)


def _text_part(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}

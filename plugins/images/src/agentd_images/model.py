"""A model that is shown the pictures whose lines stand in what it is told, or told the lines alone if it cannot see."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from agentd.errors import ConfigError
from agentd.protocols import Model, ModelEvent, PartsModel, ResettableModel, ToolResult
from agentd.turn.transcript import Message, Transcript
from agentd_history.pictures import files_in, without_pictures
from agentd_history.recording import RecordingModel

from agentd_images.showing import OF_CALLS

if TYPE_CHECKING:
    from agentd_images.showing import PictureSight

__all__ = ["SeeingModel"]


class SeeingModel(RecordingModel):
    """Passes everything on to a model. Where a line of a picture stands (`agentd_history.pictures`), the picture goes
    with it, if the model can see and the picture is still there. So what is recorded anywhere is text.

    :param sight: that of the model.
    :param end: awaited when the model is closed.
    """

    def __init__(self, inner: Model, sight: PictureSight, end: Callable[[], Awaitable[None]]) -> None:
        super().__init__(inner)
        self._sight = sight
        self._end = end
        self._shown = 0  # pictures in the conversation

    # --- the conversation ------------------------------------------------------------------------------

    def add_task(self, text: str) -> None:
        """Append what the person says, with the pictures whose lines are in it."""
        if not self._show(text, [text]):
            self._inner.add_task(self._sight.told_as(text))
        self._note(Message("task", text))

    def add_parts(self, parts: Sequence[dict[str, Any]]) -> None:
        """Append what the person says in parts."""
        texts = [part["text"] if part["type"] == "text" else "" for part in parts]
        if not self._sight.sees:
            lines = [
                t or f"[{p['type']}: not shown to this model]" for p, t in zip(parts, texts, strict=True)
            ]
            self._inner.add_task("\n".join(lines))
        else:
            pictures = self._sight.pictures(texts)
            self._count(len(pictures) + sum(part["type"] == "image_url" for part in parts))
            told = [
                {**p, "text": self._sight.told_as(p["text"])} if p["type"] == "text" else p for p in parts
            ]
            self._tell_parts([*told, *pictures])
        self._note(Message.of_task(list(parts)))

    def add_results(self, text: str) -> None:
        """Append what the blocks gave, with what they have shown."""
        if not self._show(text, [text]):
            self._inner.add_results(self._sight.told_as(text))
        self._note(Message("results", text))

    def add_tool_results(self, results: Sequence[ToolResult]) -> None:
        """Append what the calls gave. No provider takes pictures there, so they follow in a message."""
        told = (self._sight.told_as(result.output, is_of_call=True) for result in results)
        self._inner.add_tool_results(
            [ToolResult(call_id=r.call_id, output=text) for r, text in zip(results, told, strict=True)]
        )
        self._note_results(results)
        self._show(OF_CALLS, [result.output for result in results])

    def reset(self) -> None:
        """Forget what was said."""
        super().reset()
        self._shown, self._sight.is_new = 0, False

    def _show(self, text: str, texts: Iterable[str]) -> bool:
        """Tell a text with the pictures of `texts`, if there are any to show."""
        pictures = self._sight.pictures(texts)
        if pictures:
            self._count(len(pictures))
            self._tell_parts([{"type": "text", "text": self._sight.told_as(text)}, *pictures])
        return bool(pictures)

    def _tell_parts(self, parts: list[dict[str, Any]]) -> None:
        assert isinstance(self._inner, PartsModel)
        self._inner.add_parts(parts)

    def _count(self, pictures: int) -> None:
        self._shown += pictures
        self._sight.is_new = self._sight.is_new or pictures > 0

    # --- the requests ------------------------------------------------------------------------------------

    @asynccontextmanager
    async def stream(self) -> AsyncIterator[AsyncIterator[ModelEvent]]:
        """Ask for the next answer; see `agentd.protocols.Model` and `PictureSight.stream`."""
        if self._shown > self._sight.images.max_remembered:
            self._forget_old()
        told = self._told
        again = (lambda: self.tell_again(told)) if isinstance(self._inner, ResettableModel) else None
        async with self._sight.stream(self._inner.stream, again) as events:
            yield events

    async def aclose(self) -> None:
        """Close what the model holds."""
        try:
            await super().aclose()
        finally:
            await self._end()

    def _forget_old(self) -> None:
        """Have the older half of the pictures become text: rarely and many at once, for it voids the provider's cache
        of the conversation."""
        messages = list(self._told.messages)
        left = self._shown - self._sight.images.max_remembered // 2
        for place, message in enumerate(messages[:-1]):
            if left <= 0:
                break
            seen = len(files_in(message)) + sum(part["type"] == "image_url" for part in message.parts)
            if seen:
                messages[place] = without_pictures(message)
                left -= seen
        try:
            self.tell_again(Transcript(messages=messages))
        except ConfigError:  # of a model that cannot forget
            pass

"""What a model is shown of the pictures whose lines it is told, and what is done if its provider refuses them."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from agentd.errors import ContextLengthError, ModelError
from agentd.protocols import ModelEvent
from agentd.turn.transcript import Message
from agentd_history.pictures import PICTURE, without_pictures

from agentd_images.picture import data_part
from agentd_images.sight import can_see

if TYPE_CHECKING:
    from agentd_images.settings import Images
    from agentd_images.store import PictureStore

__all__ = ["OF_CALLS", "PictureSight"]

log = logging.getLogger("agentd.images")

BLIND_NOTE: Final = "[note: you are not shown pictures; code can open their files]"
GONE_NOTE: Final = "[note: no longer there, so not shown: {}]"
OF_CALLS: Final = "The pictures of these results:"
_REFUSALS: Final = (400, 404, 415, 422)
_ABOUT_PICTURES: Final = re.compile(r"image|picture|vision|multimodal|modalit", re.IGNORECASE)


class PictureSight:
    """One model's sight, for whatever layer tells it the conversation.

    :param model: its name.
    :param takes_parts: False if it can be told text alone.
    :param blind: names of models whose provider has refused pictures; this one's is added if that happens.
    :param where: what tells models of one name apart: the address of the server, say.
    :ivar sees: whether it is shown pictures.
    :ivar is_new: whether it was told of pictures that are in no request yet that the provider took.
    """

    def __init__(
        self,
        model: str,
        store: PictureStore,
        images: Images,
        *,
        takes_parts: bool,
        blind: set[tuple[str, str]],
        where: str = "",
    ) -> None:
        self.images = images
        self.is_new = False
        self._model = model
        self._store = store
        self._blind = blind
        self._key = (where, model)
        told = images.sees
        self.sees = takes_parts and self._key not in blind and (can_see(model) if told is None else told)

    def count(self, texts: Iterable[str]) -> int:
        """Return how many pictures there are to show with these texts, at most."""
        return len(self._files(texts)) if self.sees else 0

    def pictures(self, texts: Iterable[str]) -> list[dict[str, Any]]:
        """Return the pictures whose lines stand in these texts, as parts of a message; none if it does not see."""
        if not self.sees:
            return []
        found = [self._store.find(file) for file in self._files(texts)]
        return [data_part(*picture) for picture in found if picture is not None]

    def _files(self, texts: Iterable[str]) -> list[str]:
        files = dict.fromkeys(file for text in texts for _, _, file in PICTURE.findall(text))
        return list(files)[: self.images.max_pictures]

    def told_as(self, text: str, *, is_of_call: bool = False) -> str:
        """Return a text as it is told: with a note if its pictures are not shown.

        :param is_of_call: the result of a native call, whose pictures follow in a message of their own.
        """
        if not PICTURE.search(text):
            return text
        if not self.sees:
            return text if is_of_call else f"{text}\n\n{BLIND_NOTE}"
        gone = [file for file in self._files([text]) if self._store.find(file) is None]
        return f"{text}\n\n{GONE_NOTE.format(', '.join(gone))}" if gone else text

    def old(self, text: str) -> str:
        """Return a text whose pictures the model is no longer to see."""
        return without_pictures(Message("results", text)).content

    @asynccontextmanager
    async def stream(
        self,
        ask: Callable[[], AbstractAsyncContextManager[AsyncIterator[ModelEvent]]],
        tell_again: Callable[[], None] | None,
    ) -> AsyncIterator[AsyncIterator[ModelEvent]]:
        """Ask for the next answer. A provider that refuses new pictures is asked once more, without any; if it takes
        that, the model is told text alone from then on.

        :param ask: the model's `stream`.
        :param tell_again: tells the model the same conversation anew; None if it cannot forget.
        """
        async with AsyncExitStack() as stack:
            try:
                events = await stack.enter_async_context(ask())
            except ModelError as error:
                if tell_again is None or not self._may_be_about_pictures(error):
                    raise
                self.sees = False
                tell_again()
                try:
                    events = await stack.enter_async_context(ask())
                except ModelError:  # it was something else
                    self.sees = True
                    tell_again()
                    raise error from error.__cause__
                self._blind.add(self._key)
                log.warning("the model %r is told pictures as text from now on: %s", self._model, error)
            self.is_new = False
            yield events

    def _may_be_about_pictures(self, error: ModelError) -> bool:
        if not (self.sees and self.is_new) or isinstance(error, ContextLengthError):
            return False
        return error.status in _REFUSALS or bool(_ABOUT_PICTURES.search(str(error)))

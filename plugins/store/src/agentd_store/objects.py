"""The objects of a store: contents by their digests, which all conversations share.

A process that needs objects names them in a pin first, and then looks whether one of them is about to be collected; a
collection first names what it is about to remove, and then looks for pins. So one of the two sees the other, whichever
is faster, and no clock is asked. What is about to be collected is written once more under another name.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, TypeAlias

import msgspec

from agentd_store.checking import is_conversation, is_object_name
from agentd_store.errors import StoreError
from agentd_store.place import ObjectPlace
from agentd_store.seal import MAX_OBJECT, ObjectSeal

__all__ = ["NO_NOTE", "Hold", "ObjectSet"]

UPLOADS: Final = 8  # at once
_AROUND: Final = 1 << 16  # bytes around a content, more than there are
_SMALL: Final = 64 << 10  # bytes; what is smaller is written without a look whether it is there
_GARBAGE: Final = "garbage"
_OBJECTS: Final = "objects"
NO_NOTE: Final = "garbage/none"
_PINS: Final = "pins"
_TOKEN: Final = re.compile("[0-9]{1,10}")
_NOTE_S: Final = (
    7 * 86400.0
)  # how old a note is, by the clocks of whoever collects, when its collection has surely ended

Hold: TypeAlias = tuple[str, int]
"""A conversation, and the number of the entry by which it was opened."""


class ObjectSet:
    """The objects of one store."""

    def __init__(self, place: ObjectPlace, seal: ObjectSeal) -> None:
        self._place = place
        self._seal = seal

    # --- for who writes

    def pin(self, hold: Hold, names: Iterable[str]) -> None:
        """Keep these objects from collection, in place of those that were pinned by this hold."""
        self._write(self._pin(hold), sorted(names))

    def unpin(self, hold: Hold) -> None:
        """Take the pin of a hold away."""
        self._place.remove(self._pin(hold))

    @staticmethod
    def _pin(hold: Hold) -> str:
        return f"{_PINS}/{hold[0]}/{hold[1]}"

    def put(self, hold: Hold, contents: Mapping[str, Callable[[], bytes]]) -> dict[str, str]:
        """Write contents, in parallel, and return under which names they are.

        :param contents: what makes them, by the names that their digests give them.
        """
        wanted = {name: name for name in contents}
        self.pin(hold, contents)
        doomed = self.doomed()
        if renamed := {name: f"{name}-{secrets.token_hex(4)}" for name in contents if name in doomed}:
            wanted |= renamed
            self.pin(hold, wanted.values())
        with ThreadPoolExecutor(max(1, min(UPLOADS, len(wanted)))) as pool:
            for done in [pool.submit(self._put, new, contents[name]) for name, new in wanted.items()]:
                done.result()
        return wanted

    def _put(self, name: str, make: Callable[[], bytes]) -> None:
        content = make()
        if len(content) > MAX_OBJECT:
            raise StoreError(
                f"a checkpoint has a part of {len(content)} bytes, a list of files or a conversation; a store takes at "
                f"most {MAX_OBJECT}: leave files out (exclude, ignore)"
            )
        path = self.path(name)
        if len(content) < _SMALL or not self._place.has(path):
            self._place.write(path, self._seal.close(path, content))

    def get(self, name: str, *, most: int = MAX_OBJECT) -> bytes:
        """Return a content.

        :param most: bytes that it may have.
        :raises StoreError: if it is not there, larger, or damaged.
        """
        path = self.path(name)
        data = self._place.read(path, most=most + _AROUND + most // 64)
        if data is None:
            raise StoreError(f"the store {self._place.url!r} has lost the object {path!r}")
        content = self._seal.open(path, data, most=most)
        if self._seal.name_of(content) != name.partition("-")[0]:
            raise StoreError(f"the object {path!r} is damaged: it is of another content")
        return content

    def get_all(self, names: Iterable[str], *, most: int = MAX_OBJECT) -> dict[str, bytes]:
        """Return contents, read in parallel, of at most so many bytes each."""
        names = list(dict.fromkeys(names))
        with ThreadPoolExecutor(max(1, min(UPLOADS, len(names)))) as pool:
            return dict(zip(names, pool.map(partial(self.get, most=most), names), strict=True))

    @staticmethod
    def path(name: str) -> str:
        """Return where an object lies."""
        return f"{_OBJECTS}/{name[:2]}/{name}"

    # --- for who collects

    def names(self) -> set[str]:
        names = (path.rpartition("/")[2] for path in self._place.names(_OBJECTS))
        return {name for name in names if is_object_name(name)}

    def pinned(self) -> dict[Hold, set[str]]:
        """Return what is pinned, and by which hold."""
        found = {}
        for name in self._place.names(_PINS):
            _, conversation, token = [*name.split("/"), "", ""][:3]
            is_hold = is_conversation(conversation) and _TOKEN.fullmatch(token)
            if not is_hold or f"{_PINS}/{conversation}/{token}" != name:
                continue  # nobody's
            if (names := self._read(name, list[str])) is not None:
                found[conversation, int(token)] = set(names)
        return found

    def doom(self, names: Iterable[str]) -> str:
        """Say what is about to be removed; returns the note's name, for `forget`."""
        note = f"{_GARBAGE}/{secrets.token_hex(12)}"
        self._write(note, (time.time(), sorted(names)))
        return note

    def doomed(self) -> set[str]:
        """Return what collections are about to remove, or were when they ended in the middle."""
        notes = (self._read(note, tuple[float, list[str]]) for note in self._notes())
        return {name for note in notes if note is not None for name in note[1]}

    def _notes(self) -> list[str]:
        return [name for name in self._place.names(_GARBAGE) if name != NO_NOTE]

    def forget(self, note: str) -> None:
        """Take such a note away, and those that collections have left that were killed long ago."""
        self._place.remove(note)
        for name in self._notes():
            found = self._read(name, tuple[float, list[str]])
            if found is not None and time.time() - found[0] > _NOTE_S:
                self._place.remove(name)

    def remove(self, names: Iterable[str]) -> None:
        """Remove objects, in parallel."""
        names = list(names)
        with ThreadPoolExecutor(max(1, min(UPLOADS, len(names)))) as pool:
            for done in [pool.submit(self._place.remove, self.path(name)) for name in names]:
                done.result()

    def _write(self, name: str, value: object) -> None:
        self._place.write(name, self._seal.close(name, msgspec.msgpack.encode(value)))

    def _read(self, name: str, type: Any) -> Any:
        data = self._place.read(name)
        try:
            return None if data is None else msgspec.msgpack.decode(self._seal.open(name, data), type=type)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise StoreError(f"the object {name!r} is damaged: {error}") from None

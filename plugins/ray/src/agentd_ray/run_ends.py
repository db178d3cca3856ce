"""How the newest run of a conversation has ended that was given a key: in the store, before anybody is told.

Whoever gave the task may be killed before he hears of its end. He asks for it by the key then, and does not give the
task again.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

import attrs
from agentd.events import RunEnd
from agentd.types import Usage
from agentd_store.opened import OpenedStore

__all__ = ["RunEnds"]

_FOLDER: Final = "ends"


class RunEnds:
    """Those of one conversation, of which the newest is kept. Blocking; from any thread.

    :param open_store: opens the store in which the conversation is.
    """

    def __init__(self, open_store: Callable[[], OpenedStore], conversation: str) -> None:
        self._open_store = open_store
        self._object = f"{_FOLDER}/{conversation}"
        self._opened: OpenedStore | None = None

    def keep(self, key: str, end: RunEnd) -> None:
        """Keep how the run of a key has ended, in place of the one before. Raises `StoreError`."""
        store = self._store()
        data = json.dumps({"key": key, "end": attrs.asdict(end)}).encode()
        store.place.write(self._object, store.seal.close(self._object, data))

    def find(self, key: str) -> RunEnd | None:
        """Return how the run of a key has ended; None if it is not the newest one that has. Raises `StoreError`."""
        store = self._store()
        data = store.place.read(self._object)
        if data is None:
            return None
        try:
            said: dict[str, Any] = json.loads(store.seal.open(self._object, data))
            if said["key"] != key:
                return None
            given: dict[str, Any] = said["end"]
            return RunEnd(**{**given, "usage": Usage(**given["usage"])})
        except (
            ValueError,
            KeyError,
            TypeError,
            RecursionError,
        ):  # of another version: the task is given again
            return None

    def _store(self) -> OpenedStore:
        if self._opened is None:
            self._opened = self._open_store()
        return self._opened

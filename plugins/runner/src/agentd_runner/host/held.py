"""What the host holds of one session: the bytes that its code has sent, or has not read yet."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Final

__all__ = ["EACH_BYTES", "SMALL_BYTES", "HeldBytes"]

EACH_BYTES: Final = 512
"""What a small frame costs the host beside its own bytes, about."""

SMALL_BYTES: Final = 4096
"""Calls up to this size are bounded by their number, and not counted here: that would take longer than some calls."""


class HeldBytes:
    """Counts bytes up to a limit; whoever wants more waits, in the order of arrival. From any thread.

    Something may be larger than the limit itself: it gets its turn when nothing else is held.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        """All that is held."""
        self.unread = 0
        """What of it are answers that have not been read."""
        self.on_read: Callable[[], None] | None = None
        """Called when fewer unread bytes than the limit are left again, by the thread that sees it."""
        self._lock = threading.Lock()
        self._waiting: deque[tuple[int, Callable[[], None]]] = deque()

    def _fits(self, count: int) -> bool:
        return self.size + count <= self.limit or self.size == 0

    def add(self, count: int, *, unread: bool = False) -> None:
        """Count what is here already."""
        with self._lock:
            self.size += count
            if unread:
                self.unread += count

    def take(self, count: int, when_room: Callable[[], None]) -> bool:
        """Count `count` bytes that are to come. False if there is no room for them: then `when_room` is called once
        they are counted, by the thread that has made the room. Whoever does not want them any more gives them back.
        """
        with self._lock:
            if not self._waiting and self._fits(count):
                self.size += count
                return True
            self._waiting.append((count, when_room))
            return False

    def give(self, count: int, *, unread: bool = False) -> None:
        """Give back what is held no more."""
        called = []
        with self._lock:
            self.size -= count
            if unread:
                if self.unread > self.limit >= self.unread - count and self.on_read is not None:
                    called.append(self.on_read)
                self.unread -= count
            while self._waiting and self._fits(self._waiting[0][0]):
                wanted, when_room = self._waiting.popleft()
                self.size += wanted
                called.append(when_room)
        for function in called:
            function()

"""Which descriptors are ready, and whom to call: `selectors` without the tuples that it makes of each event.

Those take as long as the wait itself, when a call of a tool is all that is ready.
"""

from __future__ import annotations

import select
import selectors
import time
from collections.abc import Callable
from typing import Final

__all__ = ["Callback", "Readiness", "Ready", "readiness"]

Callback = Callable[[int], None]
"""Called with `selectors.EVENT_READ`, `EVENT_WRITE` or both."""

Ready = tuple[int, Callback, int]
"""A descriptor, its callback, and what to call that with."""

MAX_MISSES: Final = 6  # after so many, one wait in 64 begins awake
READ: Final = selectors.EVENT_READ
WRITE: Final = selectors.EVENT_WRITE
AT_ONCE: Final = 128  # descriptors that one look tells of; the others' turn is the next one


class Readiness:
    """By `selectors`, where there is no epoll."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def watch(self, descriptor: int, events: int, callback: Callback) -> None:
        """Have `wait` tell of it; replaces an earlier watch."""
        try:
            self._selector.modify(descriptor, events, callback)
        except KeyError:
            self._selector.register(descriptor, events, callback)

    def forget(self, descriptor: int) -> None:
        """Do not have it told of any more, if it was."""
        try:
            self._selector.unregister(descriptor)
        except (KeyError, ValueError):
            pass

    def wait(self, awake_s: float = 0.0) -> list[Ready]:
        """Wait until at least one is ready; the list may be empty all the same.

        :param awake_s: seconds to look again and again first, where that can be done: to be woken takes longer.
        """
        return [(key.fd, key.data, events) for key, events in self._selector.select()]


class EpollReadiness(Readiness):
    """The same by epoll, with the rules of `selectors`."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watched: dict[int, tuple[int, Callback]] = {}
        self._misses = 0
        self._asleep = 0  # how often it is not worth to stay awake

    def watch(self, descriptor: int, events: int, callback: Callback) -> None:
        """Have `wait` tell of it; replaces an earlier watch."""
        mask = (select.EPOLLIN if events & READ else 0) | (select.EPOLLOUT if events & WRITE else 0)
        if descriptor in self._watched:
            self._epoll.modify(descriptor, mask)
        else:
            self._epoll.register(descriptor, mask)
        self._watched[descriptor] = events, callback

    def forget(self, descriptor: int) -> None:
        """Do not have it told of any more, if it was."""
        if self._watched.pop(descriptor, None) is not None:
            try:
                self._epoll.unregister(descriptor)
            except OSError:  # closed already
                pass

    def wait(self, awake_s: float = 0.0) -> list[Ready]:
        """Wait until at least one is ready; see above."""
        watched = self._watched
        try:
            found = self._look(awake_s) if awake_s else None
            found = found or self._epoll.poll(-1, AT_ONCE)
        except InterruptedError:
            return []
        ready: list[Ready] = []
        for descriptor, flags in found:
            if descriptor in watched:
                events, callback = watched[descriptor]
                # Nearly all are only read; an end or an error is for whoever waits for anything.
                if events != READ:
                    may_write = WRITE if flags & ~select.EPOLLIN else 0
                    may_read = READ if flags & ~select.EPOLLOUT else 0
                    events &= may_write | may_read
                if events:
                    ready.append((descriptor, callback, events))
        return ready

    def _look(self, awake_s: float) -> list[tuple[int, int]]:
        """Stay awake, unless that was in vain: where whoever we wait for has to wait for this processor, say."""
        if self._asleep:
            self._asleep -= 1
            return []
        until = time.perf_counter() + awake_s
        while not (found := self._epoll.poll(0, AT_ONCE)):
            if time.perf_counter() > until:
                self._misses = min(self._misses + 1, MAX_MISSES)
                self._asleep = 2**self._misses - 1
                return []
        self._misses = 0
        return found


def readiness() -> Readiness:
    """Return the best of this system."""
    return EpollReadiness() if hasattr(select, "epoll") else Readiness()

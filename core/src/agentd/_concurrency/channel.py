"""Channels: what a run has to tell, on its way to one reader, in the same event loop or in another thread."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

import anyio

from agentd._concurrency.eventloop import LoopCaller
from agentd._concurrency.threads import call_quietly

__all__ = ["Channel", "ThreadChannel"]

T = TypeVar("T")


class Channel(Generic[T]):
    """A queue whose reader is in the same event loop. `put` never waits; who writes asks `is_full` and
    awaits `flow`.

    :param limit: from how many items on the reader counts as behind.
    """

    def __init__(self, *, limit: int = 512) -> None:
        self._items: deque[T] = deque()
        self._limit = limit
        self._news = anyio.Event()
        self._room: anyio.Event | None = None
        self._error: BaseException | None = None
        self._closed = False
        self.on_room: Callable[[], None] = lambda: None
        """Called when a reader that was behind has caught up."""

    def put(self, item: T) -> None:
        """Append an item. After `close` it is dropped: nobody reads any more."""
        if not self._closed:
            self._items.append(item)
            self._news.set()

    def close(self, error: BaseException | None = None) -> None:
        """End the channel; the reader gets what is left, then `error` if there is one."""
        if not self._closed:
            self._closed = True
            self._error = error
            self._news.set()
        if self._room is not None:
            self._room.set()

    def is_full(self) -> bool:
        """Say whether the reader is behind."""
        return len(self._items) >= self._limit

    async def flow(self) -> None:
        """Wait until the reader has caught up."""
        while self.is_full() and not self._closed:
            self._room = anyio.Event()
            await self._room.wait()

    async def batch(self) -> list[T]:
        """Wait for news and return everything there is; an empty list is the end. Raises the run's error,
        once."""
        while not self._items:
            if self._closed:
                error, self._error = self._error, None
                if error is not None:
                    raise error
                return []
            self._news = anyio.Event()
            await self._news.wait()
        was_full = self.is_full()
        items = list(self._items)
        self._items.clear()
        if was_full:
            if self._room is not None:
                self._room.set()
            self.on_room()
        return items


class ThreadChannel(Generic[T]):
    """The same for a reader in another thread. `put`, `close`, `is_full` and `flow` belong to the event loop.

    :param call: from `loop_caller()` of that loop.
    """

    def __init__(self, *, limit: int = 512) -> None:
        self._items: deque[T] = deque()
        self._limit = limit
        self._changed = threading.Condition()
        self._room: anyio.Event | None = None
        self._error: BaseException | None = None
        self._closed = False
        self.call: LoopCaller | None = None
        self.on_room: Callable[[], None] = lambda: None

    def put(self, item: T) -> None:
        """Append an item; dropped after `close`."""
        with self._changed:
            if not self._closed:
                self._items.append(item)
                if len(self._items) == 1:
                    self._changed.notify()

    def close(self, error: BaseException | None = None) -> None:
        """End the channel. From any thread."""
        with self._changed:
            if not self._closed:
                self._closed = True
                self._error = error
            self._changed.notify_all()
        if self.call is not None:
            call_quietly(self.call, self._make_room)

    def is_full(self) -> bool:
        """Say whether the reader is behind."""
        return len(self._items) >= self._limit

    async def flow(self) -> None:
        """Wait until the reader has caught up."""
        while self.is_full() and not self._closed:
            self._room = anyio.Event()
            if not self.is_full():
                return  # it caught up in this moment, and did not see the event
            await self._room.wait()

    def _make_room(self) -> None:
        if self._room is not None:
            self._room.set()
        self.on_room()

    def batch(self) -> list[T]:
        """Wait for news and return everything there is; an empty list is the end. Raises the run's error,
        once."""
        with self._changed:
            while not self._items and not self._closed:
                self._changed.wait()
            was_full = self.is_full()
            items = list(self._items)
            self._items.clear()
            error = None
            if not items:
                error, self._error = self._error, None
        if error is not None:
            raise error
        if was_full and self.call is not None:
            call_quietly(self.call, self._make_room)
        return items

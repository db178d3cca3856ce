"""The one channel: a queue from one writer to one reader, each a task of an event loop or a thread.

What a run has to tell goes to its reader through it, and the items of a blocking stream go from the thread that
reads them to the event loop. anyio's memory object streams belong to a single loop and hand items over one by one;
here a reader that comes late takes everything at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from agentd._concurrency.waiting import AsyncWaiter, LoopCaller, call_quietly, loop_caller

__all__ = ["Channel"]

T = TypeVar("T")
_Waiter = AsyncWaiter | threading.Event


class Channel(Generic[T]):
    """`put` never waits: who writes asks `is_full` and then waits in `flow` (a thread: `flow_sync`). A reader
    takes what there is with `batch` (a thread: `batch_sync`).

    :param limit: from how many items on the reader counts as behind.
    """

    def __init__(self, *, limit: int = 512) -> None:
        # Not a Lock: the garbage collector may close a forgotten reader's channel in the middle of a `put`.
        self._lock = threading.RLock()
        self._items: list[T] = []
        self._limit = limit
        self._reader: _Waiter | None = None
        self._writers: list[_Waiter] = []
        self._on_room: tuple[LoopCaller, Callable[[], object]] | None = None
        self._error: BaseException | None = None
        self._closed = False

    # --- to write: from any thread ---------------------------------------------------------------

    def put(self, item: T) -> None:
        """Append an item. After `close` it is dropped: nobody reads any more."""
        with self._lock:
            if self._closed:
                return
            self._items.append(item)
            reader, self._reader = self._reader, None
        if reader is not None:
            reader.set()

    def is_full(self) -> bool:
        """Say whether the reader is behind. Nobody has to wait for the reader of a closed channel."""
        return len(self._items) >= self._limit and not self._closed

    async def flow(self) -> None:
        """Wait until the reader has caught up."""
        while self.is_full():
            waiter = AsyncWaiter()
            if self._wants_room(waiter):
                await waiter.wait()

    def flow_sync(self) -> None:
        """The same in a thread."""
        while self.is_full():
            waiter = threading.Event()
            if self._wants_room(waiter):
                waiter.wait()

    def when_room(self, function: Callable[[], object]) -> None:
        """Have `function` called in the running event loop whenever a reader that was behind has caught up."""
        self._on_room = (loop_caller(), function)

    # --- to read, or to end it --------------------------------------------------------------------

    def close(self, error: BaseException | None = None) -> None:
        """End the channel, from any thread; the reader gets what is left, then `error` if there is one."""
        with self._lock:
            if self._closed:
                return
            self._closed, self._error = True, error
            reader, self._reader = self._reader, None
        if reader is not None:
            reader.set()
        self._make_room()
        # It knows the run, which knows the channel: both would stay for the garbage collector.
        self._on_room = None

    async def batch(self) -> list[T]:
        """Wait for news and return everything there is; an empty list is the end. Raises the error of `close`, once."""
        items = self._take(None)
        while items is None:
            waiter = AsyncWaiter()
            items = self._take(waiter)
            if items is None:
                await waiter.wait()
                items = self._take(None)
        return items

    def batch_sync(self) -> list[T]:
        """The same in a thread."""
        items = self._take(None)
        while items is None:
            waiter = threading.Event()
            items = self._take(waiter)
            if items is None:
                waiter.wait()
                items = self._take(None)
        return items

    def _take(self, waiter: _Waiter | None) -> list[T] | None:
        """Return what there is; None if there is nothing yet: then the next `put` sets `waiter`."""
        with self._lock:
            if not self._items and not self._closed:
                self._reader = waiter
                return None
            was_full = len(self._items) >= self._limit
            items, self._items = self._items, []
            error = None
            if not items:
                error, self._error = self._error, None
        if error is not None:
            raise error
        if was_full:
            self._make_room()
        return items

    def _wants_room(self, waiter: _Waiter) -> bool:
        with self._lock:
            if self.is_full():
                self._writers.append(waiter)
                return True
            return False  # the reader caught up in this moment

    def _make_room(self) -> None:
        with self._lock:
            writers, self._writers = self._writers, []
        for writer in writers:
            writer.set()
        if self._on_room is not None:
            call_quietly(*self._on_room)

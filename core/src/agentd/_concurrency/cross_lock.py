"""A lock for tasks of several event loops. One client may be used from several threads with loops of their own."""

from __future__ import annotations

import threading
from collections import deque
from types import TracebackType

from agentd._concurrency.waiting import AsyncWaiter

__all__ = ["CrossLock"]


class CrossLock:
    """`async with lock`: one task at a time, whichever loop it runs in, in the order of arrival."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._held = False
        self._waiting: deque[AsyncWaiter] = deque()

    async def __aenter__(self) -> None:
        with self._guard:
            if not self._held:
                self._held = True
                return
            waiter = AsyncWaiter()
            self._waiting.append(waiter)
        try:
            await waiter.wait()
        except BaseException:  # cancelled
            with self._guard:
                if waiter in self._waiting:
                    self._waiting.remove(waiter)
                    raise
            self._release()  # it had been handed over already
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    def _release(self) -> None:
        with self._guard:
            if self._waiting:
                self._waiting.popleft().set()  # still held: by the one that is woken
            else:
                self._held = False

"""Bringing tools up to date in the background when a source says that its list has changed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Awaitable, Callable
from typing import Final

import anyio
from agentd._concurrency.waiting import AsyncWaiter

from agentd_tools.backoff import Backoff

__all__ = ["Refresher"]

_log: Final = logging.getLogger("agentd.tools")
_WAIT_S: Final = 5.0


class Refresher:
    """Runs `refresh` at once when it is started, and again as long as there is more to do.

    A burst of starts gives one or two refreshes: what comes while one runs is done by the next. A source
    that never stops changing is asked once a second.

    :param refresh: does it, on any event loop; tells whether there is more to do already.
    """

    def __init__(self, refresh: Callable[[], Awaitable[bool]]) -> None:
        self._refresh = refresh
        self._lock = threading.Lock()
        self._runs = False
        self._again = False
        self._waiting: list[AsyncWaiter] = []

    def start(self) -> None:
        """Start it, from any thread; never blocks."""
        with self._lock:
            self._again = True
            if self._runs:
                return
            self._runs = True
        from agentd_tools.loops import shared_loop

        shared_loop().post(self._work, self._over)

    async def _work(self) -> None:
        try:
            backoff = Backoff(first_s=0.05, longest_s=1.0, spread=0.0, free=1)
            while self._take():
                await anyio.sleep(backoff.next_s())
                try:
                    self._again |= await self._refresh()
                except Exception:  # the loop is everybody's; what failed is tried again with the next change
                    _log.exception("the tools could not be brought up to date")
        finally:
            self._over()

    def _take(self) -> bool:
        with self._lock:
            again, self._again = self._again, False
            self._runs = again
            return again

    def _over(self) -> None:
        with self._lock:
            self._runs = False
            waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.set()

    async def wait(self) -> None:
        """Wait until nothing is under way, for at most 5 seconds."""
        if not self._runs:
            return
        waiter = AsyncWaiter()
        with self._lock:
            if not self._runs:
                return
            self._waiting.append(waiter)
        with anyio.move_on_after(_WAIT_S):
            await waiter.wait()

"""The one way to wait for another thread or event loop: a waiter that anybody may set, whatever waits on it.

It is set once. `anyio.Event` may be set in its own loop only, `threading.Event` would stop the loop that waits.
"""

from __future__ import annotations

import threading

import anyio

from agentd._concurrency.eventloop import loop_caller

__all__ = ["AsyncWaiter", "ThreadWaiter", "Waiter"]


class ThreadWaiter:
    """For callers without an event loop."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.set = self._event.set

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until it is set; False if that took longer than `timeout_s` seconds."""
        return self._event.wait(timeout_s)


class AsyncWaiter:
    """For tasks on asyncio or trio; made in their loop."""

    def __init__(self) -> None:
        self._event = anyio.Event()
        self._call_soon = loop_caller()
        self._thread = threading.get_ident()

    def set(self) -> None:
        """Wake who waits. From any thread, but not from a signal handler; never blocks."""
        try:
            if self._thread == threading.get_ident():
                self._event.set()  # the loop is awake: waking it by its socket costs a multiple
            else:
                self._call_soon(self._event.set)
        except RuntimeError:  # the loop has ended, and with it whoever waited
            pass

    async def wait(self) -> None:
        """Wait until it is set."""
        await self._event.wait()


Waiter = AsyncWaiter | ThreadWaiter

"""Wake a waiter from the I/O thread, whatever it waits in: asyncio, trio or a plain thread."""

from __future__ import annotations

import threading

import anyio

from agentd._concurrency.eventloop import loop_caller

__all__ = ["AsyncWaiter", "ThreadWaiter"]


class ThreadWaiter:
    """For callers without an event loop."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.set = self._event.set

    def wait(self, timeout_s: float | None) -> bool:
        return self._event.wait(timeout_s)


class AsyncWaiter:
    """For a task on asyncio or trio; made in that task."""

    def __init__(self) -> None:
        self._event = anyio.Event()
        self._call_soon = loop_caller()

    def set(self) -> None:
        try:
            self._call_soon(self._event.set)
        except RuntimeError:  # the loop has ended, and with it whoever waited
            pass

    async def wait(self) -> None:
        await self._event.wait()

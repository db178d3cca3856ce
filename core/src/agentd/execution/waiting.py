"""Wake a waiter from the I/O thread, whatever it waits in: asyncio, trio or a plain thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import anyio
import sniffio

__all__ = ["AsyncWaiter", "ThreadWaiter"]


class ThreadWaiter:
    """For callers without an event loop."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.set = self._event.set

    def wait(self, timeout_s: float | None) -> bool:
        return self._event.wait(timeout_s)


class AsyncWaiter:
    """For a task on asyncio or trio; made in that task. anyio has no call into a loop that does not block."""

    def __init__(self) -> None:
        self._event = anyio.Event()
        self._soon: Callable[[Callable[[], Any]], Any]
        if sniffio.current_async_library() == "trio":
            import trio

            self._soon = trio.lowlevel.current_trio_token().run_sync_soon
        else:
            import asyncio

            self._soon = asyncio.get_running_loop().call_soon_threadsafe

    def set(self) -> None:
        try:
            self._soon(self._event.set)
        except RuntimeError:  # the loop has ended, and with it whoever waited (trio: RunFinishedError)
            pass

    async def wait(self) -> None:
        await self._event.wait()

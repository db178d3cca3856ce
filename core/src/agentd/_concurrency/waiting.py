"""Between threads and event loops: call into a loop, wait for another thread or loop, and a lock for several loops.

On asyncio and trio alike. anyio's own `from_thread.run` waits for the answer, which an I/O thread must not;
`anyio.Event` may be set in its own loop only, and `threading.Event` would stop the loop that waits.
"""

from __future__ import annotations

import asyncio
import operator
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

__all__ = ["AsyncWaiter", "CrossLock", "LoopCaller", "call_quietly", "loop_caller"]

LoopCaller = Callable[[Callable[[], object]], object]


def loop_caller() -> LoopCaller:
    """Return a function that has the running event loop call something soon.

    The returned function may be called from any thread and never blocks. It raises `RuntimeError` when the
    loop is closed (asyncio) or over (trio's `RunFinishedError`).
    """
    token = _trio_token()
    if token is not None:
        return token.run_sync_soon  # type: ignore[no-any-return]
    return asyncio.get_running_loop().call_soon_threadsafe


def _trio_token() -> Any:
    """Return what calls into the running trio loop, or None if it is none of trio's."""
    trio = sys.modules.get("trio")
    try:  # trio 0.27 can say so without an exception, which takes longer than all else here
        is_trio = trio is not None and getattr(trio.lowlevel, "in_trio_run", lambda: True)()
        return trio.lowlevel.current_trio_token() if is_trio else None  # type: ignore[union-attr]
    except (RuntimeError, AttributeError):  # or another thread is just importing trio
        return None


def call_quietly(call: LoopCaller, function: Callable[[], object]) -> None:
    """Have a loop call something soon, and say nothing when it is gone: then nobody waits any more."""
    with suppress(RuntimeError):  # both a closed asyncio loop and trio's RunFinishedError
        call(function)


class AsyncWaiter:
    """A `threading.Event` for tasks on asyncio or trio, made in their loop. Set once, from anywhere."""

    def __init__(self) -> None:
        self._call_soon = loop_caller()
        # Not anyio's event, which stands before these and takes longer: one is made for most things that come.
        self._event: Any = asyncio.Event() if _trio_token() is None else sys.modules["trio"].Event()
        self._thread = threading.get_ident()

    def set(self) -> None:
        """Wake who waits. From any thread, but not from a signal handler; never blocks."""
        is_here = self._thread == threading.get_ident()
        # The loop is awake then: waking it by its socket costs a multiple.
        call_quietly(operator.call if is_here else self._call_soon, self._event.set)

    async def wait(self) -> None:
        """Wait until it is set."""
        await self._event.wait()


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

    async def __aexit__(self, *exc_info: object) -> None:
        self._release()

    def _release(self) -> None:
        with self._guard:
            if self._waiting:
                self._waiting.popleft().set()  # still held: by the one that is woken
            else:
                self._held = False

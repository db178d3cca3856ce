"""Between threads and event loops: call into a loop, wait for another thread or loop, and a lock for several loops.

On asyncio and trio alike. anyio's own `from_thread.run` waits for the answer, which an I/O thread must not;
`anyio.Event` may be set in its own loop only, and `threading.Event` would stop the loop that waits.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import trio

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
    if trio is None:
        return None
    try:
        if not trio.lowlevel.in_trio_run():  # an exception for each look would take longer
            return None
    except AttributeError:  # before 0.27, or another thread is just importing trio
        pass
    try:
        return trio.lowlevel.current_trio_token()
    except (RuntimeError, AttributeError):
        return None


def call_quietly(call: LoopCaller, function: Callable[[], object]) -> None:
    """Have a loop call something soon, and say nothing when it is gone: then nobody waits any more."""
    try:
        call(function)
    except RuntimeError:  # both a closed asyncio loop and trio's RunFinishedError
        pass


class AsyncWaiter:
    """A `threading.Event` for tasks on asyncio or trio, made in their loop. Set once, from anywhere."""

    def __init__(self) -> None:
        token = _trio_token()
        self._call_soon: LoopCaller
        self._event: asyncio.Event | trio.Event
        # Not anyio's event, which stands before these and takes longer: one is made for most things that come.
        if token is None:
            self._call_soon, self._event = asyncio.get_running_loop().call_soon_threadsafe, asyncio.Event()
        else:
            self._call_soon, self._event = token.run_sync_soon, sys.modules["trio"].Event()
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

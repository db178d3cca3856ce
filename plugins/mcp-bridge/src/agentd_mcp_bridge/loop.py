"""The event loop of all MCP connections: one daemon thread of the process, and the way into it.

It is not the loop of `agentd_tools.shared_loop()`: a server's large answer is parsed and checked in this one
and would hold up other async tools there.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio
from agentd._concurrency.waiting import AsyncWaiter
from agentd.errors import ToolError
from agentd_tools.loops import TaskLoop

__all__ = ["McpLoop", "mcp_loop", "on_mcp_loop"]

T = TypeVar("T")


class McpLoop(TaskLoop):
    """A `TaskLoop` in a thread of its own. Always asyncio, whatever its callers run on."""

    def __init__(self) -> None:
        super().__init__()
        self.alive = True
        """False once it does not run in this process any more: threads do not survive a fork."""
        threading.Thread(target=self._run, name="agentd-mcp", daemon=True).start()

    def _run(self) -> None:
        try:
            anyio.run(self.serve, backend="asyncio")
        finally:  # it serves as long as the process lives, unless something foreign broke it
            self.alive = False


class _Errand:
    """A coroutine function on its way into the MCP loop, and its outcome on the way back."""

    def __init__(self, work: Callable[[], Awaitable[Any]], done: Callable[[], object]) -> None:
        self.work = work
        self.done = done
        self.result: Any = None
        self.error: BaseException | None = None
        self.scope: anyio.CancelScope | None = None
        self.given_up = False

    async def run(self) -> None:
        with anyio.CancelScope() as self.scope:
            if self.given_up:
                return
            try:
                self.result = await self.work()
            except anyio.get_cancelled_exc_class():
                self.error = ToolError("the MCP connection was closed while this was on its way")
                self.tell()
                raise
            except BaseException as error:  # one out of here would reach nobody
                self.error = error
        self.tell()

    def lost(self) -> None:
        self.error = ToolError("the event loop of the MCP connections has ended")
        self.tell()

    def cancel(self) -> None:
        if self.scope is not None:
            self.scope.cancel()

    def tell(self) -> None:
        self.done()


async def on_mcp_loop(work: Callable[[], Awaitable[T]]) -> T:
    """Await `work()` in the MCP loop, from any event loop; cancelling this cancels it there."""
    loop = mcp_loop()
    if loop.is_here():
        return await work()
    answered = AsyncWaiter()
    errand = _Errand(work, answered.set)
    loop.post(errand.run, errand.lost)
    try:
        await answered.wait()
    except anyio.get_cancelled_exc_class():
        errand.given_up = True
        loop.call_soon(errand.cancel)
        raise
    if errand.error is not None:
        try:
            raise errand.error
        finally:
            errand.error = None  # or the exception and this frame keep each other alive
    return errand.result  # type: ignore[no-any-return]


def on_mcp_loop_sync(work: Callable[[], Awaitable[T]], timeout_s: float | None = None) -> T | None:
    """The same from a plain thread; None if it took longer than `timeout_s`."""
    done = threading.Event()
    errand = _Errand(work, done.set)
    mcp_loop().post(errand.run, errand.lost)
    if not done.wait(timeout_s):
        return None
    if errand.error is not None:
        raise errand.error
    return errand.result  # type: ignore[no-any-return]


_lock = threading.Lock()
_loop: McpLoop | None = None


def mcp_loop() -> McpLoop:
    """Return the loop of the process, started with the first call."""
    global _loop
    loop = _loop
    if loop is None or not loop.alive:
        with _lock:
            if _loop is None or not _loop.alive:
                _loop = McpLoop()
            loop = _loop
    return loop


def _forget() -> None:
    """Start anew in a forked child, which has no thread that would run the loop."""
    global _loop, _lock
    if _loop is not None:
        _loop.alive = False
    _loop, _lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget)

"""The one thread of the process in which the microsandbox SDK is used: it has an asyncio loop and nothing else.

The SDK's calls are awaited on asyncio; an executor is used from asyncio, trio and plain threads.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from agentd.errors import SandboxUnavailableError

__all__ = ["SdkThread", "sdk_thread"]

T = TypeVar("T")


class SdkThread:
    """An asyncio loop in a daemon thread. Methods may be called from any other thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, name="agentd-msb", daemon=True).start()

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start `work` as a task of the loop; return at once."""
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def forget(self, work: Coroutine[Any, Any, object]) -> None:
        """Start `work` if the loop still runs, and let nobody wait for it."""
        try:
            self.start(work)
        except RuntimeError:  # the interpreter is shutting down
            work.close()

    def run(self, work: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
        """Run `work` and wait for it. It is cancelled if the wait ends early. Raises `TimeoutError`."""
        future = self.start(work)
        try:
            return future.result(timeout_s)
        except BaseException:
            future.cancel()
            raise


_lock = threading.Lock()
_thread: SdkThread | None = None
_lost_by_fork = False


def sdk_thread() -> SdkThread:
    """Return this process's thread, started on first use.

    :raises SandboxUnavailableError: in a forked child of a process that has used the SDK, whose own threads
        do not exist in the child.
    """
    global _thread
    if _lost_by_fork:
        raise SandboxUnavailableError(
            "microsandbox cannot be used in a forked child of a program that has used it; "
            "start the child with multiprocessing's 'spawn' method"
        )
    with _lock:
        if _thread is None:
            _thread = SdkThread()
        return _thread


def _after_fork_in_child() -> None:
    global _lock, _thread, _lost_by_fork
    _lock = threading.Lock()
    _lost_by_fork = _lost_by_fork or _thread is not None
    _thread = None


os.register_at_fork(after_in_child=_after_fork_in_child)

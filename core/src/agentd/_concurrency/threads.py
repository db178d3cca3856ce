"""Threads beside an event loop: a worker for blocking calls, and the portal of sync callers."""

from __future__ import annotations

import atexit
import threading
import weakref
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from agentd._concurrency.eventloop import LoopCaller, loop_caller

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal, BlockingPortalProvider

__all__ = ["PortalLease", "Worker", "call_quietly"]

T = TypeVar("T")


def call_quietly(call: LoopCaller, function: Callable[[], object]) -> None:
    """Have a loop call something soon, and say nothing when it is gone: then nobody waits any more."""
    try:
        call(function)
    except RuntimeError:  # both a closed asyncio loop and trio's RunFinishedError
        pass


class Worker:
    """Runs blocking functions in a daemon thread that is reused, and ends when nothing came for a second.

    A daemon, unlike anyio's worker threads: a provider that answers after minutes must not keep the
    interpreter from ending. If the thread is busy, another one is started.
    """

    idle_s = 1.0

    def __init__(self, name: str = "agentd-model") -> None:
        self._name = name
        self._lock = threading.Lock()
        self._idle: SimpleQueue[Callable[[], Callable[[], object] | None]] | None = None

    def submit(self, job: Callable[[], Callable[[], object] | None]) -> None:
        """Have `job` run; it must not raise. What it returns is called when the thread is free again."""
        with self._lock:
            inbox, self._idle = self._idle, None
        if inbox is not None:
            inbox.put(job)
        else:
            threading.Thread(target=self._serve, args=([job],), name=self._name, daemon=True).start()

    async def run(self, function: Callable[[], T]) -> T:
        """Return what `function` returns or raise what it raises. Cancelled, it leaves the function alone."""
        done = anyio.Event()
        call = loop_caller()
        outcome: list[Any] = [None, None]

        def job() -> Callable[[], object]:
            try:
                outcome[0] = function()
            except BaseException as exc:
                outcome[1] = exc
            return lambda: call_quietly(call, done.set)

        self.submit(job)
        await done.wait()
        if outcome[1] is not None:
            try:
                raise outcome[1]
            finally:
                outcome.clear()  # or the exception and this frame keep each other alive
        return outcome[0]  # type: ignore[no-any-return]

    def _serve(self, jobs: list[Callable[[], Callable[[], object] | None]]) -> None:
        inbox: SimpleQueue[Callable[[], Callable[[], object] | None]] = SimpleQueue()
        while True:
            tell = jobs.pop()()
            with self._lock:
                spare = self._idle is None
                if spare:
                    self._idle = inbox
            if tell is not None:  # only now: whoever hears of it may submit the next job at once
                tell()
                tell = None
            if not spare:
                return
            try:
                jobs.append(inbox.get(timeout=self.idle_s))
            except Empty:
                with self._lock:
                    if self._idle is inbox:
                        self._idle = None
                        return
                jobs.append(inbox.get())  # it was handed over in this very moment


class PortalLease:
    """A share in the one event loop thread that serves all synchronous callers of the process.

    The thread starts with the first lease and ends with the last. `on_exit` is called when the main thread
    has ended while the lease is still open; it should close it. It is called before the interpreter waits
    for other threads, which atexit handlers are not: anyio's idle worker threads would be waited for in
    vain.
    """

    def __init__(self, on_exit: Callable[[], None] | None = None) -> None:
        self._provider = _shared.provider()
        self.portal: BlockingPortal = self._provider.__enter__()
        self._thread = self.portal.call(threading.current_thread)
        self._on_exit = on_exit
        self._open = True
        _shared.leases.add(self)

    def close(self) -> None:
        """Give the share back. From any thread; may be called again."""
        with _shared.lock:
            was_open, self._open = self._open, False
        if was_open:
            _shared.leases.discard(self)
            if threading.current_thread() is self._thread:
                # a client was collected there: the thread cannot wait for its own end
                threading.Thread(target=self._provider.__exit__, args=(None, None, None), daemon=True).start()
            else:
                self._provider.__exit__(None, None, None)

    def exit(self) -> None:
        """What happens at the end of the main thread."""
        try:
            if self._on_exit is not None:
                self._on_exit()
        finally:
            self.close()


class _Shared:
    """What the leases of a process share. Empty until the first one is made."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.leases: weakref.WeakSet[PortalLease] = weakref.WeakSet()
        self._provider: BlockingPortalProvider | None = None

    def provider(self) -> BlockingPortalProvider:
        from anyio.from_thread import BlockingPortalProvider

        with self.lock:
            if self._provider is None:
                self._provider = BlockingPortalProvider(backend="asyncio")
                watcher = threading.Thread(target=self._at_end, name="agentd-exit", daemon=True)
                watcher.start()
                atexit.register(watcher.join, 10.0)
            return self._provider

    def _at_end(self) -> None:
        threading.main_thread().join()
        for lease in list(self.leases):
            try:
                lease.exit()
            except Exception:  # the interpreter is ending: the others still want to be closed
                pass


_shared = _Shared()

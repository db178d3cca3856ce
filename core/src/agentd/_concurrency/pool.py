"""The one way to call in a thread: `call_in_thread`, and the pools of threads behind it.

The threads belong to the process: a thousand sessions share them, whichever loop each runs in. They hold no state
of a client, start on first use, and are daemons, so that what hangs cannot keep the process from ending.
`anyio.to_thread.run_sync` has threads and a limit for each event loop, the interpreter waits for its threads at the
end, and a call takes about twice as long: 38 against 19 us on asyncio, 48 against 30 on trio (Python 3.11, medians).

Two pools serve `call_in_thread`. The bounded one is for agentd's own work: with 40 threads, as anyio has, a
thousand sessions that start at once do not start a thousand programs at once. The unbounded one is for what waits
for somebody else: a provider, a person, another program. It may take minutes, and nothing must wait behind it.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import weakref
from collections.abc import Callable
from contextvars import Context
from typing import Any, Final, Protocol, TypeVar

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

from agentd._concurrency.waiting import AsyncWaiter

__all__ = ["PoolJob", "WorkerPool", "bounded_pool", "call_in_thread", "unbounded_pool"]

T = TypeVar("T")

_log: Final = logging.getLogger("agentd.threads")


class PoolJob(Protocol):
    """What a pool runs. Hashed by identity."""

    def run(self) -> Callable[[], object] | None:
        """Do it. What is returned is called when the thread is free again: who hears of the end from it and submits
        the next job finds this thread."""


class WorkerPool:
    """Runs jobs in threads, as many as are wanted at once up to `max_threads`; idle ones end.

    concurrent.futures costs a Future, two locks and a condition per job; a tool call needs none of them.

    :param name: of the threads.
    :param max_threads: None for no limit.
    :param idle_s: a thread ends when nothing came for this many seconds.
    """

    def __init__(self, name: str, *, max_threads: int | None = None, idle_s: float = 30.0) -> None:
        self._name = name
        self._max_threads = max_threads
        self._idle_s = idle_s
        self.forget_threads()
        _pools.add(self)

    def forget_threads(self) -> None:
        """Start anew without any thread. For a forked child, which has none of its parent's threads."""
        self._jobs: queue.SimpleQueue[PoolJob] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._unfinished = 0
        self._running: set[PoolJob] = set()

    @property
    def threads(self) -> int:
        """How many threads there are, without those that were written off."""
        return self._threads

    def submit(self, job: PoolJob) -> None:
        """Run `job` in a thread; returns at once. It waits while all threads that may be are busy."""
        with self._lock:
            self._unfinished += 1
            grow = self._grow()
        self._jobs.put(job)
        if grow:
            self._start_thread()

    def write_off(self, job: PoolJob) -> None:
        """Stop counting the thread that runs `job`, which hangs: another may start in its place.

        The thread ends when the job does. Nothing happens if the job does not run.
        """
        with self._lock:
            if job not in self._running:
                return
            self._running.discard(job)
            self._threads -= 1
            self._unfinished -= 1
            grow = self._grow()
        if grow:
            self._start_thread()

    def _grow(self) -> bool:
        if self._threads < self._unfinished and (
            self._max_threads is None or self._threads < self._max_threads
        ):
            self._threads += 1
            return True
        return False

    def _start_thread(self) -> None:
        threading.Thread(target=self._work, name=self._name, daemon=True).start()

    def _work(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=self._idle_s)
            except queue.Empty:
                if self._may_retire():
                    return
                continue
            self._running.add(job)
            tell = None
            try:
                tell = job.run()
            except BaseException:  # SystemExit in a job must not end the thread
                _log.exception("a job of the pool %r raised", self._name)
            is_counted = self._finished(job)
            del job  # or its arguments live until the next one comes
            if tell is not None:
                tell()
                del tell
            if not is_counted:
                return

    def _may_retire(self) -> bool:
        with self._lock:
            if self._unfinished < self._threads:
                self._threads -= 1
                return True
            return False

    def _finished(self, job: PoolJob) -> bool:
        """Count a job as done; False if its thread was written off in the meantime."""
        with self._lock:
            if job not in self._running:
                return False
            self._running.discard(job)
            self._unfinished -= 1
            return True


class _ThreadCall:
    """A function on its way through a pool and back into the loop."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function: Callable[[], Any] | None = function
        self._ticket = [True]  # whoever pops it decides: the thread begins, or the caller gives up
        self._waiter = AsyncWaiter()
        self.wait = self._waiter.wait
        self._result: Any = None
        self._error: BaseException | None = None

    def run(self) -> Callable[[], object] | None:
        function, self._function = self._function, None
        if not self.take_ticket():
            return None
        assert function is not None
        try:
            # A fresh context: what one call sets is not there in the thread's next call.
            self._result = Context().run(function)
        except BaseException as error:
            self._error = error
        return self._waiter.set

    def take_ticket(self) -> bool:
        """Have the function begin, or not begin any more; False if the other side was first."""
        try:
            return self._ticket.pop()
        except IndexError:
            return False

    def outcome(self) -> Any:
        """Return the result or raise the error, once."""
        if self._error is not None:
            try:
                raise self._error
            finally:
                self._error = None  # or the exception and this frame keep each other alive
        return self._result


async def call_in_thread(
    function: Callable[[], T],
    *,
    abandon: bool = False,
    stop: Callable[[], object] | None = None,
    unbounded: bool = False,
) -> T:
    """Run `function` in a thread and return what it returns or raise what it raises.

    Cancelled before the function has begun, it does not begin. Cancelled later, the cancellation goes on once the
    function has ended, so that nothing of it goes on behind the caller's back. On asyncio a second
    `Task.cancel()` goes on at once.

    :param abandon: let a cancelled call's function go on by itself. For what may hang, and for what changes nothing.
    :param stop: called when the caller is cancelled; `function` should end soon then.
    :param unbounded: it waits for somebody else: it counts against no limit, and nothing waits behind it.
    """
    await checkpoint_if_cancelled()
    call = _ThreadCall(function)
    (unbounded_pool if unbounded else bounded_pool).submit(call)
    try:
        await call.wait()
    except BaseException:  # cancelled
        if not call.take_ticket() and not abandon:
            if stop is not None:
                stop()
            with anyio.CancelScope(shield=True):
                await call.wait()
        raise
    return call.outcome()  # type: ignore[no-any-return]


_pools: Final[weakref.WeakSet[WorkerPool]] = weakref.WeakSet()
bounded_pool: Final = WorkerPool("agentd-worker", max_threads=40)
unbounded_pool: Final = WorkerPool("agentd-waiting")


def _forget_threads() -> None:
    for pool in _pools:
        pool.forget_threads()


os.register_at_fork(after_in_child=_forget_threads)

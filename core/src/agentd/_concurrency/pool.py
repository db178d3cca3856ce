"""Worker threads for what blocks: tools, rendering, decoding of large texts.

They belong to the process, not to a session: a thousand sessions share them. They hold no state of a
client, start on first use, and are daemon threads, so that a tool that hangs cannot keep the process.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar

import anyio

from agentd._concurrency.eventloop import loop_caller

__all__ = ["PoolJob", "WorkerPool", "call_in_thread", "pool"]

T = TypeVar("T")

_log: Final = logging.getLogger("agentd.tools")


class PoolJob(Protocol):
    """What the pool runs. Hashed by identity."""

    def run(self) -> None: ...


class WorkerPool:
    """Runs jobs in threads, as many as are wanted at once up to `max_threads`; idle ones end.

    concurrent.futures costs a Future, two locks and a condition per job; a tool call needs none of them.
    """

    def __init__(self, *, max_threads: int = 256, idle_s: float = 30.0) -> None:
        self._max_threads = max_threads
        self._idle_s = idle_s
        self.forget_threads()

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
        if self._threads < min(self._unfinished, self._max_threads):
            self._threads += 1
            return True
        return False

    def _start_thread(self) -> None:
        threading.Thread(target=self._work, name="agentd-tool", daemon=True).start()

    def _work(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=self._idle_s)
            except queue.Empty:
                if self._may_retire():
                    return
                continue
            self._running.add(job)
            try:
                job.run()
            except BaseException:  # SystemExit in a job must not end the thread
                _log.exception("a job of the tool pool raised")
            if not self._finished(job):
                return
            del job  # or its arguments live until the next one comes

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


class _Called:
    """A function on its way through the pool and back into the loop."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function
        self.done = anyio.Event()
        self.call_soon = loop_caller()
        self.result: Any = None
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.result = self.function()
        except BaseException as error:
            self.error = error
        try:
            self.call_soon(self.done.set)
        except RuntimeError:  # the loop is gone, and with it whoever waited
            pass


async def call_in_thread(function: Callable[[], T]) -> T:
    """Run `function` in a thread of the pool and return its result. Cancelled, it leaves the function alone."""
    job = _Called(function)
    pool.submit(job)
    await job.done.wait()
    if job.error is not None:
        raise job.error
    return job.result  # type: ignore[no-any-return]


pool: Final = WorkerPool()

os.register_at_fork(after_in_child=pool.forget_threads)

"""Worker threads for blocking tools, and the one thread that watches time-outs.

Both belong to the process, not to a session: a thousand sessions share them. They hold no state of a
client, start on first use, and are daemon threads, so that a tool that hangs cannot keep the process.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from typing import Final, Protocol

__all__ = ["Deadline", "Job", "Watcher", "WorkerPool", "pool", "watcher"]

_log: Final = logging.getLogger("agentd.tools")


class Job(Protocol):
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
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._unfinished = 0
        self._running: set[Job] = set()

    @property
    def threads(self) -> int:
        """How many threads there are, without those that were written off."""
        return self._threads

    def submit(self, job: Job) -> None:
        """Run `job` in a thread; returns at once. It waits while all threads that may be are busy."""
        with self._lock:
            self._unfinished += 1
            grow = self._grow()
        self._jobs.put(job)
        if grow:
            self._start_thread()

    def write_off(self, job: Job) -> None:
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

    def _finished(self, job: Job) -> bool:
        """Count a job as done; False if its thread was written off in the meantime."""
        with self._lock:
            if job not in self._running:
                return False
            self._running.discard(job)
            self._unfinished -= 1
            return True


class Deadline(Protocol):
    """What the watcher watches."""

    deadline: float

    def expire(self) -> None:
        """Called once, in the watcher's thread, when the deadline has passed."""
        ...


class Watcher:
    """Calls `expire` of what is still watched at its deadline (`time.monotonic`).

    Watching and forgetting are one dictionary operation each. The thread sleeps until the earliest
    deadline it knew of; it is woken only by a deadline earlier than that, so a stream of calls with like
    time-outs wakes it about once per time-out.
    """

    def __init__(self) -> None:
        self.forget_thread()

    def forget_thread(self) -> None:
        """Start anew without the thread. For a forked child."""
        self._watched: dict[int, Deadline] = {}
        self._condition = threading.Condition(threading.Lock())
        self._next_look = float("inf")
        self._thread: threading.Thread | None = None

    def watch(self, key: int, entry: Deadline) -> None:
        """Watch `entry` until its deadline or until `forget(key)`."""
        self._watched[key] = entry
        if entry.deadline < self._next_look:
            with self._condition:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="agentd-timeouts", daemon=True)
                    self._thread.start()
                self._condition.notify()

    def forget(self, key: int) -> bool:
        """Stop watching; tell whether it was still watched. Of several callers, exactly one gets True."""
        return self._watched.pop(key, None) is not None

    def _run(self) -> None:
        with self._condition:
            while True:
                # First "never", then look: a deadline that comes in between finds itself the earliest and
                # notifies, which waits for the lock until this thread waits.
                self._next_look = float("inf")
                due = self._expire_due()
                self._next_look = due
                self._condition.wait(None if due == float("inf") else max(0.0, due - time.monotonic()))

    def _expire_due(self) -> float:
        earliest = float("inf")
        now = time.monotonic()
        for key, entry in list(self._watched.items()):
            if entry.deadline > now:
                earliest = min(earliest, entry.deadline)
            elif self.forget(key):
                try:
                    entry.expire()
                except Exception:
                    _log.exception("a tool's time-out could not be told")
        return earliest


pool: Final = WorkerPool()
watcher: Final = Watcher()

os.register_at_fork(after_in_child=pool.forget_threads)
os.register_at_fork(after_in_child=watcher.forget_thread)

"""The I/O thread: one for all runners of this process, however many sessions there are.

Actions are started and awaited from any thread and any event loop, so the pipes cannot belong to one loop.
A thread of our own also answers a frame in 0.04 ms where an event loop takes 0.1. It carries no state of
any client: it only calls back whoever registered a descriptor.

Callbacks must be short. What is only nearly always short, such as a tool, may be given to `run`: it is
carried out by this thread when all I/O is done, without the two thread switches that would cost a quick
tool most of its time. Should it take long after all, a second thread, the deputy, notices within
milliseconds and makes another I/O thread, and the first one ends when the job does.
"""

from __future__ import annotations

import logging
import os
import selectors
import threading
import time
from collections import deque
from collections.abc import Callable

from agentd_runner.host.readiness import Callback, readiness

__all__ = ["Hub", "shared_hub"]

log = logging.getLogger("agentd.execution")

AWAKE_S = 20e-6  # after a job: code that calls one tool after the other makes its next call in this time
PATIENCE_S = 0.002  # how long a job may take before the deputy acts
VIGIL_S = 0.2  # how long after the last job the deputy keeps looking


class Hub:
    """A daemon thread around a selector. All methods may be called from any thread."""

    def __init__(self) -> None:
        self._readiness = readiness()
        self._queue: deque[Callable[[], None]] = deque()
        self._wake_read, self._wake_write = os.pipe()
        for descriptor in (self._wake_read, self._wake_write):
            os.set_blocking(descriptor, False)
        self._readiness.watch(self._wake_read, selectors.EVENT_READ, self._drain)
        self._forgotten: set[int] = set()  # in this round of events
        self._jobs: deque[Callable[[], None]] = deque()
        self._job_since = 0.0  # 0: no job runs
        self._last_job = 0.0
        self._deputy_wanted = threading.Event()
        self._deputy: threading.Thread | None = None
        self._thread = self._start(self._run)

    def _start(self, target: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=target, name="agentd-io", daemon=True)
        self._thread = thread  # before it starts: it asks whether it is the one
        thread.start()
        return thread

    def watch(self, descriptor: int, events: int, callback: Callback) -> None:
        """Call `callback(events)` in the I/O thread whenever the descriptor is ready; replaces an earlier watch."""
        self.call(lambda: self._readiness.watch(descriptor, events, callback))

    def forget(self, descriptor: int, then: Callable[[], None] | None = None) -> None:
        """Stop watching, then call `then` (to close the descriptor, say) in the I/O thread."""

        def change() -> None:
            self._readiness.forget(descriptor)
            self._forgotten.add(descriptor)
            if then is not None:
                then()

        self.call(change)

    def call(self, function: Callable[[], None]) -> None:
        """Run a short function in the I/O thread; at once if this is that thread."""
        if threading.current_thread() is self._thread:
            function()
            return
        self._queue.append(function)
        try:
            os.write(self._wake_write, b"\0")
        except BlockingIOError:  # full of wake-ups already
            pass

    def run(self, job: Callable[[], None]) -> None:
        """Run a job in the I/O thread once the I/O at hand is done. To be called in a callback."""
        self._jobs.append(job)

    def _run_jobs(self, me: threading.Thread) -> None:
        if not self._deputy_wanted.is_set():
            self._deputy_wanted.set()
            if self._deputy is None:
                self._deputy = threading.Thread(target=self._stand_by, name="agentd-io-deputy", daemon=True)
                self._deputy.start()
        while self._jobs and self._thread is me:
            job = self._jobs.popleft()
            self._last_job = self._job_since = time.monotonic()
            try:
                job()
            except BaseException:
                log.exception("a job in the I/O thread failed")
            if self._thread is me:
                self._job_since = 0.0

    def _stand_by(self) -> None:
        """The deputy: sleeps until there are jobs, then looks every few milliseconds for a while."""
        while True:
            self._deputy_wanted.wait()
            time.sleep(PATIENCE_S)
            since, now = self._job_since, time.monotonic()
            if since and now - since >= PATIENCE_S:
                self._job_since = 0.0
                self._start(self._run)
            elif now - self._last_job > VIGIL_S:
                self._deputy_wanted.clear()
                if self._job_since or time.monotonic() - self._last_job <= VIGIL_S:
                    self._deputy_wanted.set()  # one came in between

    def _drain(self, _events: int) -> None:
        os.read(self._wake_read, 4096)
        while self._queue:
            self._queue.popleft()()

    def _run(self) -> None:
        me = threading.current_thread()
        wait, forgotten = self._readiness.wait, self._forgotten
        awake_s = 0.0
        while self._thread is me:
            if self._jobs:  # those of a thread that was replaced, or of the callbacks below
                self._run_jobs(me)
                awake_s = AWAKE_S
                continue
            forgotten.clear()
            ready, awake_s = wait(awake_s), 0.0
            for descriptor, callback, events in ready:
                if descriptor in forgotten:
                    continue  # another callback has closed it, and its number may be that of a new, blocking pipe
                try:
                    callback(events)
                except BaseException:  # SystemExit in one session's callback must not stop the others
                    log.exception("an I/O callback failed")


_lock = threading.Lock()
_hub: Hub | None = None


def shared_hub() -> Hub:
    """Return this process's hub, started on first use."""
    global _hub
    with _lock:
        if _hub is None:
            _hub = Hub()
        return _hub


def _after_fork_in_child() -> None:
    # A fork copies no threads: the child gets a hub of its own when it needs one.
    global _hub, _lock
    _hub = None
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork_in_child)

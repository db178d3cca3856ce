"""The one thread that watches time-outs.

It belongs to the process, not to a session: a thousand sessions share it. It holds no state of a client, starts on
first use, and is a daemon thread.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import Final, Protocol

__all__ = ["Deadline", "DeadlineWatcher", "watcher"]

_log: Final = logging.getLogger("agentd.tools")


class Deadline(Protocol):
    """What the watcher watches."""

    deadline: float

    def expire(self) -> None:
        """Called once, in the watcher's thread, when the deadline has passed."""
        ...


class DeadlineWatcher:
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


watcher: Final = DeadlineWatcher()

os.register_at_fork(after_in_child=watcher.forget_thread)

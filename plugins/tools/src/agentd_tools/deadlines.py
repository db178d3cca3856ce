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

    Watching and forgetting are one dictionary operation each, without a lock. The thread sleeps until the earliest
    deadline it knew of; it is woken only by a deadline earlier than that, so a stream of calls with like
    time-outs wakes it about once per time-out.
    """

    def __init__(self) -> None:
        self.watched: dict[int, Deadline] = {}
        """What is watched, by its number. Whoever takes an entry out may act on it: of several, exactly one gets it.
        Whoever puts one in calls `look_sooner` if its deadline is before `next_look`."""
        self._start_anew()

    def _start_anew(self) -> None:
        self._condition = threading.Condition(threading.Lock())
        self.next_look = float("inf")
        self._thread: threading.Thread | None = None

    def forget_thread(self) -> None:
        """Start anew without the thread and its entries. For a forked child."""
        self.watched.clear()
        self._start_anew()

    def watch(self, key: int, entry: Deadline) -> None:
        """Watch `entry` until its deadline or until `forget(key)`."""
        self.watched[key] = entry
        if entry.deadline < self.next_look:
            self.look_sooner()

    def look_sooner(self) -> None:
        """Look at all deadlines now, and sleep until the earliest of them."""
        with self._condition:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="agentd-timeouts", daemon=True)
                self._thread.start()
            self._condition.notify()

    def forget(self, key: int) -> bool:
        """Stop watching; tell whether it was still watched. Of several callers, exactly one gets True."""
        return self.watched.pop(key, None) is not None

    def _run(self) -> None:
        with self._condition:
            while True:
                # First "never", then look: a deadline that comes in between finds itself the earliest and
                # notifies, which waits for the lock until this thread waits.
                self.next_look = float("inf")
                due = self._expire_due()
                self.next_look = due
                self._condition.wait(None if due == float("inf") else max(0.0, due - time.monotonic()))

    def _expire_due(self) -> float:
        earliest = float("inf")
        now = time.monotonic()
        for key, entry in list(self.watched.items()):
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

"""Sandboxes that are started ahead of the sessions that take them over, empty: no code has ever run in them.

A sandbox shows the files that its folders had when it was started, and the kernel lets nobody add a folder of the host
to one that runs (a view of the file system takes mounts from its own alone). So one is started for the workspace and
the options of sessions that were there before, and is taken over only if it shows what a new one would show now.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections import deque
from typing import Final

from agentd.errors import AgentdError

from agentd_executor_native.blueprint import Blueprint, StartedSandbox

__all__ = ["MOST", "PrewarmedSandboxes", "prewarmed"]

log = logging.getLogger("agentd.executor.native")

MOST: Final = 64  # of one program
KEPT_S: Final = 60.0  # how long those that the user wants wait for a session when there is none
REFILL_S: Final = 0.05  # the session that has taken one is better off with the processors to itself
START_S: Final = 5.0


class PrewarmedSandboxes:
    """Those of this program, by blueprint. Thread-safe; one thread starts and ends them while there are any."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._ready: dict[Blueprint, deque[StartedSandbox]] = {}
        self._wanted: dict[Blueprint, int] = {}
        self._open: dict[Blueprint, int] = {}  # sessions
        # Until when without a session: only where the user has said how many.
        self._kept_until: dict[Blueprint, float] = {}
        self._starting: Blueprint | None = None
        self._refill_at = 0.0
        self._thread: threading.Thread | None = None

    def take(self, blueprint: Blueprint) -> StartedSandbox | None:
        """Return a sandbox that is what a new one would be; None if there is none. Others are ended."""
        while True:
            with self._changed:
                ready = self._ready.get(blueprint)
                if not ready:
                    return None
                sandbox = ready.popleft()
                self._refill_at = time.monotonic() + REFILL_S
                self._changed.notify_all()
            try:
                fits = sandbox.is_alive and sandbox.shown == blueprint.shown()
            except (AgentdError, OSError):
                fits = False
            if fits:
                return sandbox
            sandbox.end()

    def session_begins(self, blueprint: Blueprint, count: int | None) -> None:
        """Have as many ready from now on, or as other sessions want; None: one, as long as there are several."""
        with self._changed:
            sessions = self._open[blueprint] = self._open.get(blueprint, 0) + 1
            self._kept_until.pop(blueprint, None)
            own = count if count is not None else int(sessions > 1)
            wanted = self._wanted.get(blueprint, 0)
            count = max(wanted, min(own, MOST - sum(self._wanted.values()) + wanted))
            if count <= 0:
                return
            self._wanted[blueprint] = count
            self._refill_at = time.monotonic() + REFILL_S
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="agentd-native-prewarm", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def session_ends(self, blueprint: Blueprint, count: int | None) -> None:
        """With the last one, what is ready ends; after a while if the user has said how many are to be there."""
        with self._changed:
            self._open[blueprint] = self._open.get(blueprint, 1) - 1
            if self._open[blueprint] > 0:
                return
            del self._open[blueprint]
            if count:
                self._kept_until[blueprint] = time.monotonic() + KEPT_S
                self._changed.notify_all()
                return
            left = self._dropped(blueprint)
            # Whoever removes the workspace now finds nothing that is being made there.
            self._changed.wait_for(lambda: self._starting != blueprint, START_S)
        for sandbox in left:
            sandbox.end()

    def close(self) -> None:
        """End all that wait."""
        with self._changed:
            left = [one for blueprint in [*self._ready, *self._wanted] for one in self._dropped(blueprint)]
            self._changed.wait_for(lambda: self._starting is None, START_S)
        for sandbox in left:
            sandbox.end()

    def let_go(self) -> None:
        """In a forked child: they are the parent's, and so is the thread."""
        ready, self._ready = self._ready, {}
        self._changed, self._thread, self._starting = threading.Condition(), None, None
        self._wanted.clear()
        for sandbox in [one for each in ready.values() for one in each]:
            sandbox.let_go()

    def _dropped(self, blueprint: Blueprint) -> list[StartedSandbox]:
        self._wanted.pop(blueprint, None)
        self._kept_until.pop(blueprint, None)
        return [*self._ready.pop(blueprint, ())]

    # --- the thread

    def _work(self) -> None:
        while True:
            with self._changed:
                now = time.monotonic()
                old = [one for one, until in self._kept_until.items() if until <= now]
                unused = [sandbox for blueprint in old for sandbox in self._dropped(blueprint)]
                self._starting = None if unused else self._lacking(now)
                if self._starting is None and not unused:
                    if not self._wanted and not self._ready:
                        self._thread = None
                        return
                    self._changed.wait(self._pause_s(now))
                    continue
            for sandbox in unused:
                sandbox.end()
            if self._starting is not None:
                self._start_one(self._starting)

    def _lacking(self, now: float) -> Blueprint | None:
        lacking = (one for one, count in self._wanted.items() if len(self._ready.get(one, ())) < count)
        return None if now < self._refill_at else next(lacking, None)

    def _pause_s(self, now: float) -> float | None:
        due = [*self._kept_until.values(), *([self._refill_at] if now < self._refill_at else [])]
        return max(0.01, min(due) - now) if due else None

    def _start_one(self, blueprint: Blueprint) -> None:
        sandbox = None
        try:
            sandbox = blueprint.start()
            sandbox.greet(blueprint.greeting)
        except Exception as error:  # the next session starts one itself, and tells it
            log.info("no sandbox is started ahead: %s", error)
        with self._changed:
            if sandbox is None:
                self._wanted.pop(blueprint, None)
            elif blueprint in self._wanted:
                self._ready.setdefault(blueprint, deque()).append(sandbox)
                sandbox = None
        try:
            if sandbox is not None:
                sandbox.end()
        finally:
            with self._changed:
                self._starting = None
                self._changed.notify_all()


prewarmed: Final = PrewarmedSandboxes()
"""Those of this program."""

atexit.register(prewarmed.close)
os.register_at_fork(after_in_child=prewarmed.let_go)

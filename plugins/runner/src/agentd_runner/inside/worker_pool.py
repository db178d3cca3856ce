"""The workers and supervisors that no action has: made ahead, taken, used again, and given back by an idle session."""

from __future__ import annotations

import errno
import os
import time

from .frames import EXIT
from .poller import Poller
from .processes import children_of, kill_below
from .setup import RunnerSetup
from .shell import export_lines
from .timings import KILL_MARGIN_S, PAUSE_S, REFILL_S, SPARE_IDLE_S, SPARE_LEAST_S
from .workers import Spawner, SupervisedWorker


class SpareWorkers:
    """The pool, with the spawner that its supervisors come from."""

    def __init__(self, setup: RunnerSetup, poller: Poller) -> None:
        self.setup = setup
        self.poller = poller
        self.spawner: Spawner | None = None
        self.base = b""  # what exports the environment of the spawner's time
        self.old_spawners: list[Spawner] = []
        self.spares: dict[str, SupervisedWorker] = {}  # by kind
        self.idle: dict[str, SupervisedWorker] = {}  # by kind: a supervisor without a worker
        self.wanted: set[str] = set()  # kinds whose spare was taken
        self.refill_due = 0.0
        self.last_start: dict[str, float] = {}  # by kind
        self.last_end = 0.0
        self.keep_s = SPARE_IDLE_S  # how long after the last action all this is kept

    def deadlines(self) -> list[float]:
        """When to look here again."""
        deadlines = []
        if self.wanted:
            deadlines.append(self.refill_due)
        if self.spares or self.idle:
            deadlines.append(self.idle_due())
        if self.old_spawners:  # look whether they have ended
            deadlines.append(time.monotonic() + 0.1)
        return deadlines

    def idle_due(self) -> float:
        return max(self.last_end, *self.last_start.values()) + self.keep_s

    def check_clocks(self, now: float) -> None:
        if self.old_spawners:
            self.sweep_spawners()
        if (self.spares or self.idle) and now >= self.idle_due():
            self.retire_spawner()  # an idle session gives its memory back

    def refill(self) -> None:
        """Make the spares that were taken, now that what took them has been sent on its way."""
        for kind in self.wanted:
            if kind not in self.spares:
                try:
                    self.spares[kind] = self.new_worker(kind)
                except OSError:  # no more processes, until what uses them up has ended
                    self.refill_due = time.monotonic() + REFILL_S
                    return
        self.wanted.clear()

    def new_worker(self, kind: str) -> SupervisedWorker:
        """Return a worker that was not there before. Raises `OSError` if no process can be made."""
        idle = self.idle.pop(kind, None)
        if idle is not None:
            try:
                idle.start_worker(self.base)
                return idle
            except OSError:  # something has killed it
                pass
        for _ in range(2):
            if self.spawner is None:
                self.poller.flush()  # or the child would hold a copy of what is still to be sent
                self.spawner = Spawner(self.setup)
                self.base = os.fsencode(export_lines(self.setup.env))
            try:
                return self.spawner.start_worker(kind, self.base)
            except OSError:  # the spawner was killed
                self.retire_spawner()
        raise BlockingIOError(errno.EAGAIN, "no new process can be made")

    def take_worker(self, kind: str) -> SupervisedWorker:
        """Return a worker for an action, a spare if there is one. Raises `OSError` if no process can be made."""
        self.last_start[kind] = time.monotonic()
        if self.keep_s >= SPARE_LEAST_S:
            self.wanted.add(kind)
        # At once where one action follows the other without a pause; else not beside the action, which is
        # better off with the processors to itself, but when it ends or turns out to take long.
        now = self.last_start[kind]
        self.refill_due = now if now - self.last_end < PAUSE_S else now + REFILL_S
        worker = self.spares.pop(kind, None)
        if worker is not None and not worker.is_alive():
            worker.close()
            worker = None
        return worker or self.new_worker(kind)

    def take_worker_or_refuse(self, kind: str, ident: int) -> SupervisedWorker | None:
        """The same; without one the action is told that it is not run."""
        try:
            return self.take_worker(kind)
        except OSError as error:
            message = f"not run: {error.strerror}; try again when other programs and blocks have ended"
            self.poller.send_json(EXIT, ident, {"status": "failed", "exit_code": 1, "message": message})
            return None

    def action_ended(self) -> None:
        self.last_end = self.refill_due = time.monotonic()

    def dismiss(self, worker: SupervisedWorker, reported: bool) -> None:
        """Keep a supervisor for the next worker if it has done its part and there is none yet."""
        if reported and worker.spawner is self.spawner and worker.kind not in self.idle:
            worker.release_worker()
            self.idle[worker.kind] = worker
        else:
            worker.close()

    def kill_worker(self, worker: SupervisedWorker) -> None:
        """End a worker whose supervisor does not. If the spawner was killed too, all that it watched fell to us."""
        if worker.kill():
            return
        self.retire_spawner()
        spawners = {spawner.pid for spawner in self.old_spawners}
        kill_below([pid for pid in children_of(os.getpid()) if pid not in spawners])

    def retire_spawner(self) -> None:
        """Let the spawner end when its last supervisor does; the next worker comes from a new one."""
        for worker in self.spares.values():
            worker.close()
        for worker in self.idle.values():
            worker.control.close()
        self.spares.clear()
        self.idle.clear()
        if self.spawner is not None:
            self.spawner.retire()
            self.old_spawners.append(self.spawner)
            self.spawner = None
        self.sweep_spawners()

    def sweep_spawners(self) -> None:
        for spawner in self.old_spawners[:]:
            if spawner.has_ended():
                spawner.socket.close()
                self.old_spawners.remove(spawner)

    def close(self) -> None:
        """End all workers and wait for them, so that nothing outlives the runner."""
        deadline = time.monotonic() + KILL_MARGIN_S
        self.retire_spawner()
        while self.old_spawners and time.monotonic() < deadline:
            time.sleep(0.002)
            self.sweep_spawners()
        kill_below(children_of(os.getpid()))

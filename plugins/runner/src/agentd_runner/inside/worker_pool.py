"""The workers and supervisors that no action has: made ahead, taken, used again, and given back by an idle session."""

from __future__ import annotations

import errno
import os
import time

from .frames import EXIT
from .poller import Poller
from .primitives import socket
from .processes import LINUX, children_of, kill_below
from .setup import RunnerSetup
from .shell import export_lines
from .timings import PAUSE_S, POOL_END_S, REFILL_S, SPARE_IDLE_S, SPARE_LEAST_S, WARM_TIMES
from .warm_python import WarmPython
from .workers import Spawner, SupervisedWorker

TYPE_CHECKING = False  # `typing` itself would cost every runner its import
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class SpareWorkers:
    """The pool, with the spawners that its supervisors come from: a bare one, and one with modules imported."""

    def __init__(self, setup: RunnerSetup, poller: Poller) -> None:
        self.setup = setup
        self.poller = poller
        self.spawner: Spawner | None = None
        self.base = b""  # what exports the environment of the spawner's time
        self.old_spawners: list[Spawner] = []
        self.warm = WarmPython(setup, poller, self.retire)
        self.warm_wanted = False  # whether to look for modules that are not imported
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
        if self.warm.spawner is not None:
            deadlines.append(min(self.warm.due, self.warm_due()))
        return deadlines

    def idle_due(self) -> float:
        return self.last_action() + self.keep_s

    def warm_due(self) -> float:
        return self.last_action() + self.keep_s * WARM_TIMES

    def last_action(self) -> float:
        return max([self.last_end, *self.last_start.values()])

    def check_clocks(self, now: float) -> None:
        if self.old_spawners:
            self.sweep_spawners()
        if (self.spares or self.idle) and now >= self.idle_due():
            self.retire_workers()  # an idle session gives its memory back
        self.warm.check_clocks(now)
        if self.warm.spawner is not None and now >= self.warm_due():
            self.warm.close()

    def python_kind(self, imports: Sequence[str], folders: Sequence[str]) -> str:
        """Return the kind of Python for a block that imports these modules, its own folders being these."""
        self.want_ahead(imports)
        return self.warm.kind if self.warm.suits(imports, folders) else "python"

    def want_ahead(self, imports: Iterable[str]) -> None:
        """Have these imported when there is time for it, unless so many sessions are open that none keeps workers."""
        self.warm.want(imports)
        self.warm_wanted = LINUX and self.keep_s >= SPARE_LEAST_S

    @property
    def is_importing(self) -> bool:
        return self.warm_wanted or self.warm.due != float("inf")

    def import_ahead(self) -> None:
        """Have what blocks import imported for the later ones."""
        self.warm_wanted = False
        try:
            begun = self.warm.begin()
        except OSError:  # no more processes
            return
        if begun:  # those from before have less
            self.close_workers({*self.spares, *self.idle} - {"bash", "python"})

    def make_ahead(self, kinds: Iterable[str]) -> None:
        """Make these when there is time for it, and keep them until the first action says for how long."""
        self.wanted.update(kinds)
        self.keep_s = float("inf")

    def refill(self) -> None:
        """Make the spares that were taken, now that what took them has been sent on its way."""
        for kind in self.wanted:
            if kind not in self.spares and kind in ("bash", "python", self.warm.kind):
                try:
                    self.spares[kind] = self.new_worker(kind)
                except OSError:  # no more processes, until what uses them up has ended
                    self.refill_due = time.monotonic() + REFILL_S
                    return
        self.wanted.clear()

    def new_worker(self, kind: str, *, waits: bool = False) -> SupervisedWorker:
        """Return a worker that was not there before; an action may wait for it. Raises `OSError` if no process can be
        made."""
        idle = self.idle.pop(kind, None)
        if idle is not None:
            try:
                idle.start_worker(self.base)
                return idle
            except OSError:  # something has killed it
                pass
        if kind not in ("bash", "python"):
            return self.warm.start_worker(self.base)
        for _ in range(2):
            if self.spawner is None:
                self.poller.flush()  # or the child would hold a copy of what is still to be sent
                self.spawner = Spawner(self.setup)
                self.base = os.fsencode(export_lines(self.setup.env))
            try:
                return self.spawner.start_worker(kind, self.base, waits=waits)
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
        try:
            return worker or self.new_worker(kind, waits=True)
        except OSError:
            if kind in ("bash", "python"):
                raise
            self.warm.close()  # something has killed its spawner
            return self.take_worker("python")

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
        if reported and self.is_of_use(worker):
            worker.release_worker()
            self.idle[worker.kind] = worker
        else:
            worker.close()

    def is_of_use(self, worker: SupervisedWorker) -> bool:
        spawner, kind = (self.spawner, worker.kind)
        if kind not in ("bash", "python"):
            spawner, kind = self.warm.spawner, self.warm.kind
        return (
            worker.spawner is spawner and worker.kind == kind and kind not in self.idle and not worker.is_bare
        )

    def kill_worker(self, worker: SupervisedWorker) -> None:
        """End a worker whose supervisor does not. If the spawner was killed too, all that it watched fell to us."""
        if worker.kill():
            return
        self.retire_spawner()
        spawners = {spawner.pid for spawner in self.old_spawners}
        kill_below([pid for pid in children_of(os.getpid()) if pid not in spawners])

    def retire_spawner(self, keep: Iterable[str] = ()) -> None:
        """Let the spawners end when their last supervisor does; the next worker comes from a new one.

        :param keep: kinds of workers that are as good as before.
        """
        self.warm.close()
        self.retire_workers(keep)

    def retire_workers(self, keep: Iterable[str] = ()) -> None:
        """The same, but keep what has modules imported: that takes long."""
        self.close_workers({*self.spares, *self.idle}.difference(keep))
        if self.spawner is not None:
            self.retire(self.spawner)
            self.spawner = None
        self.sweep_spawners()

    def close_workers(self, kinds: Iterable[str]) -> None:
        for kind in kinds:
            if kind in self.spares:
                self.spares.pop(kind).close()
            if kind in self.idle:
                self.idle.pop(kind).control.close()

    def retire(self, spawner: Spawner) -> None:
        spawner.retire()
        self.old_spawners.append(spawner)
        self.poller.watch(spawner.socket.fileno(), lambda _event: self.on_retired(spawner))

    def on_retired(self, spawner: Spawner) -> None:
        """A spawner has ended: its socket is closed then. Or it answers too late, and nobody reads it."""
        try:
            spawner.socket.recv(16, socket.MSG_DONTWAIT)
        except OSError:
            pass
        self.sweep_spawners()

    def sweep_spawners(self) -> None:
        for spawner in self.old_spawners[:]:
            if spawner.has_ended():
                self.poller.unwatch(spawner.socket.fileno())
                spawner.socket.close()
                self.old_spawners.remove(spawner)

    def close(self) -> None:
        """End all workers and wait for them, so that nothing outlives the runner."""
        deadline = time.monotonic() + POOL_END_S
        self.retire_spawner()
        while self.old_spawners and time.monotonic() < deadline:
            time.sleep(0.002)
            self.sweep_spawners()
        kill_below(children_of(os.getpid()))

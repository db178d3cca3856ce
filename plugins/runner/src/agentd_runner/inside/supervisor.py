"""The supervisor of an action: it waits for the worker, ends what is left below it, and reports how it went."""

from __future__ import annotations

import os
import resource
import select
import struct
import time

from .descriptors import receive
from .primitives import signal, socket, to_json
from .processes import (
    LINUX,
    children_of,
    count_tasks,
    descendants,
    kill_below,
    reap_children,
    signal_all,
    stop_below,
    tasks_here,
    tasks_of,
)

COMMAND = struct.Struct("!cd")  # of the runner to a supervisor: a letter, the grace in seconds
LEFT_OVER_S = 0.05  # helpers that end by themselves (multiprocessing's tracker) may do so
COUNT_S = 0.02  # how long counting an action's tasks may take while they run
LASTING_MS = 50  # how often a job is looked at whose first process has ended


class ActionSupervisor:
    """The root of one action's processes: waits for the worker, then ends whatever is left and reports that in
    one JSON line on its control socket.

    A `COMMAND` on that socket: `T` ends the action (TERM, grace, KILL); `C` has it count the action's tasks
    (processes and threads), if they may be more than `most`, and end the action that has more. `J` says that it is a
    job: it lasts as long as any process of it does; a line with the worker's pid answers. `L` says that what the worker
    leaves running goes on: when that has ended and others have not, a line says so: a report, a space, the pid of one
    of these. `S` sends all processes the signal whose number stands in the grace's place. A closed socket (the runner
    is gone) ends the action at once.
    """

    def __init__(self, control: socket.socket, worker: int, most: int) -> None:
        self.control = control
        self.worker = worker
        self.most = most
        self.counted, self.tasks_then = most, 0  # not yet: as many as there may be
        self.crowd = 0
        self.status = 0
        self.ended = False  # the worker
        self.cpu_s, self.memory = 0.0, 0
        self.deadline: float | None = None
        self.left_over = False
        self.lasts = False  # it is a job
        self.leaves = False  # the worker's end is told while others go on
        self.killed = 0
        self.poll = select.poll()
        self.poll.register(control, select.POLLIN)
        try:
            self.pidfd = os.pidfd_open(worker)
            self.poll.register(self.pidfd, select.POLLIN)
        except (AttributeError, OSError):  # not Linux, or an old one: look every few milliseconds
            self.pidfd = -1
        self.report()  # a warm-up: the pages that it touches are copied now and not when it counts

    def supervise(self) -> None:
        """Return when nothing of the action is left and the report is sent."""
        while not self.reap():
            for descriptor, _ in self.poll.poll(self.timeout_ms()):
                if descriptor != self.pidfd:
                    self.obey_command()
            if self.deadline is not None and time.monotonic() >= self.deadline:
                self.kill_all_below()
        self.tell()
        if self.pidfd >= 0:
            os.close(self.pidfd)

    def tell(self, end: bytes = b"") -> None:
        """Send the report."""
        try:
            self.control.sendall(self.report() + end)
        except OSError:  # the runner is gone
            pass

    def timeout_ms(self) -> int | None:
        if self.pidfd < 0 or self.ended:
            return LASTING_MS if self.lasts and self.deadline is None else 2
        if self.deadline is None:
            return None
        return max(1, int((self.deadline - time.monotonic()) * 1000) + 1)

    def obey_command(self) -> None:
        data, _ = receive(self.control, COMMAND.size)
        if not data:
            self.poll.unregister(self.control)
            self.kill_all_below()
            return
        letter, grace_s = COMMAND.unpack(data)
        if letter == b"C":
            self.check_task_count()
            return
        if letter == b"J":
            self.lasts = True
            self.control.send(b"%d\n" % self.worker)
            return
        if letter == b"L":
            self.leaves = True
            return
        if letter == b"S":
            signal_all(descendants(children_of(os.getpid())), int(grace_s))
            return
        self.deadline = time.monotonic() + grace_s
        pids = descendants(children_of(os.getpid())) or [self.worker]
        signal_all(pids, signal.SIGTERM)
        signal_all(pids, signal.SIGCONT)  # a stopped process acts on TERM only when it goes on

    def check_task_count(self) -> None:
        """End the action if it has too many tasks.

        A fork bomb grows faster than it can be counted, unless it is stopped first. An honest action is not
        stopped: it is counted in a moment, and not again before the machine's tasks have grown by what is left.
        """
        now = tasks_here()
        if self.counted + now - self.tasks_then < self.most:
            return
        children, until = children_of(os.getpid()), time.monotonic() + COUNT_S
        self.counted, self.tasks_then = count_tasks(children, until), now
        if self.counted > self.most or time.monotonic() >= until:
            stopped = stop_below(children)
            self.counted = sum(map(tasks_of, stopped))
            if self.counted > self.most:
                self.crowd = self.counted
                self.kill_all_below()
            else:
                signal_all(stopped, signal.SIGCONT)

    def kill_all_below(self) -> None:
        """Kill all that is below; called again and again until nothing is."""
        below = children_of(os.getpid())
        if below:
            if self.left_over and not self.killed:
                self.killed = len(descendants(below))
            kill_below(below)
        elif not self.ended:  # no /proc (macOS): what has left the worker's group survives
            signal_all([-self.worker], signal.SIGKILL)
        self.deadline = time.monotonic() + LEFT_OVER_S

    def reap(self) -> bool:
        """Collect what has ended; True when nothing is left."""
        if not reap_children(self.count_in):
            return True
        if self.ended and self.deadline is None and not self.lasts:
            if self.poll.poll(0):  # what was said before the worker began may say that it lasts
                self.obey_command()
            elif self.leaves:
                self.tell(b" %d\n" % (children_of(os.getpid()) or [0])[0])
                self.lasts = True
            else:
                self.left_over = True
                self.deadline = time.monotonic() + LEFT_OVER_S
        return False

    def count_in(self, pid: int, status: int, used: resource.struct_rusage) -> None:
        self.cpu_s += used.ru_utime + used.ru_stime
        self.memory = max(self.memory, used.ru_maxrss)
        if pid == self.worker:
            self.status, self.ended = status, True
            if self.pidfd >= 0:
                self.poll.unregister(self.pidfd)
            if not LINUX:  # nobody is adopted there: the worker's own group is what can be ended
                signal_all([-pid], signal.SIGKILL)

    def report(self) -> bytes:
        """Return the report: wait status, CPU seconds, peak memory in bytes, number of processes killed, tasks if
        they were too many."""
        unit = 1024 if LINUX else 1  # ru_maxrss is in KiB on Linux, in bytes on macOS
        return to_json([self.status, self.cpu_s, self.memory * unit, self.killed, self.crowd])

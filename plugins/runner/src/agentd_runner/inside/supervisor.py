"""The supervisor of an action: it waits for the worker, ends what is left below it, and reports how it went."""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import socket
import struct
import time

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


class ActionSupervisor:
    """The root of one action's processes: waits for the worker, then ends whatever is left and reports that in
    one JSON line on its control socket.

    A `COMMAND` on that socket: `T` ends the action (TERM, grace, KILL); `C` has it count the action's tasks
    (processes and threads), if they may be more than `most`, and end the action that has more. A closed socket
    (the runner is gone) ends the action at once.
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
        try:
            self.control.sendall(self.report())
        except OSError:
            pass
        if self.pidfd >= 0:
            os.close(self.pidfd)

    def timeout_ms(self) -> int | None:
        if self.pidfd < 0 or self.ended:
            return 2
        if self.deadline is None:
            return None
        return max(1, int((self.deadline - time.monotonic()) * 1000) + 1)

    def obey_command(self) -> None:
        data = self.control.recv(COMMAND.size)
        if not data:
            self.poll.unregister(self.control)
            self.kill_all_below()
            return
        letter, grace_s = COMMAND.unpack(data)
        if letter == b"C":
            self.check_task_count()
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
        if self.ended and self.deadline is None:
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
        return json.dumps([self.status, self.cpu_s, self.memory * unit, self.killed, self.crowd]).encode()

"""The sub-reaper of a supervisor: one main child, and whatever comes to be below it, until nothing is left.

A supervisor is a program of its own between the host and something that starts processes. It outlives the host, to end
what it has started: the MCP bridge has one for each stdio server, the srt executor one for each sandbox. The
supervisor of an action (`inside.supervisor`) is forked for each block and uses the same functions of
`inside.processes`. The standard library alone, and little of it: imports are most of what a supervisor's start costs.

On Linux, what the main child starts becomes the supervisor's child when its parent dies, however often it forked and
changed its session. Elsewhere nobody is adopted, and nothing lists what is below: only the main child's process group
can be ended.
"""

from __future__ import annotations

import os
import resource
import select
import sys
import time

from agentd_runner.inside.primitives import signal
from agentd_runner.inside.processes import (
    adopt_orphans,
    children_of,
    descendants,
    end_with,
    kill_below,
    load_prctl,
    reap_children,
    signal_all,
)

TYPE_CHECKING = False  # `typing` itself would cost every supervisor its import
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["KILL_S", "SubReaper", "supervisor_command"]

KILL_S = 5.0  # how long killing may take; a process that waits for a dead disk or a tracer does not end
LOOK_S = 0.02  # after how long what is killed is looked for again

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class SubReaper:
    """Starts the main child, hears of ends below it, and ends all of it."""

    def __init__(self, on_term: Callable[[], object] | None = None) -> None:
        """Make this process the sub-reaper. Of INT, TERM and HUP, it hears TERM, and that only with `on_term`."""
        self.main = 0
        self.exit_code: int | None = None
        """The main child's, once it has ended: its own, or 128 + N for signal N."""
        self._prctl = load_prctl()
        adopt_orphans(self._prctl)
        self._wake, woken = os.pipe()
        for descriptor in (self._wake, woken):
            os.set_blocking(descriptor, False)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the host alone decides
            signal.signal(number, signal.SIG_IGN)
        if on_term is not None:
            signal.signal(signal.SIGTERM, lambda *_: on_term())
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(woken, warn_on_full_buffer=False)

    def start(self, become: Callable[[], object], *, not_started: int) -> None:
        """Fork the main child, which leads a session of its own and has no signal handlers; it calls `become`.

        That is to call `end_with_parent` and an `exec` function. If it comes back, the exit code is `not_started`.
        """
        self._pid = os.getpid()
        self.main = os.fork()
        if self.main:
            return
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE):
                signal.signal(number, signal.SIG_DFL)
            os.setsid()
            become()
        finally:
            os._exit(not_started)

    def end_with_parent(self, number: int) -> None:
        """In the main child, the last step before `exec`: have it get this signal when the supervisor ends."""
        end_with(self._pid, self._prctl, number)

    def wait(self, seconds: float | None, watched: Mapping[int, int]) -> list[int]:
        """Wait until a child has ended, a signal has come, one of these descriptors has an event (of poll(2); a hang-up
        is always one), or the time is up; return the descriptors that have one."""
        poller = select.poll()  # select() knows no descriptor above 1023
        poller.register(self._wake, select.POLLIN)
        for descriptor, events in watched.items():
            poller.register(descriptor, events)
        ready = [descriptor for descriptor, _ in poller.poll(None if seconds is None else seconds * 1000)]
        if self._wake in ready:
            ready.remove(self._wake)
            os.read(self._wake, 4096)
        return ready

    def reap(self) -> bool:
        """Take the children that have ended; True if there are others. If not, nothing is left below this process
        (where nobody is adopted: the main child has ended)."""
        return reap_children(self._took)

    def _took(self, pid: int, status: int, used: resource.struct_rusage) -> None:
        if pid == self.main:
            code = os.waitstatus_to_exitcode(status)
            self.exit_code = code if code >= 0 else 128 - code

    def signal_below(self, number: int) -> None:
        """Send everything below this process a signal."""
        signal_all(descendants(children_of(os.getpid())) + self._group(), number)

    def kill_below(self, seconds: float = KILL_S) -> None:
        """Kill everything below this process, again and again until nothing is left or the time is up."""
        deadline = time.monotonic() + seconds
        while self.reap() and time.monotonic() < deadline:
            kill_below(children_of(os.getpid()))
            self._kill_group()
            self.wait(LOOK_S, {})
        self._kill_group()  # what has outlived the main child

    def _kill_group(self) -> None:
        for number in (signal.SIGSTOP, signal.SIGKILL):  # a stopped process cannot fork away
            signal_all(self._group(), number)

    def _group(self) -> list[int]:
        """Return what stands for all that is below where nobody is adopted: the main child and its group."""
        if self._prctl is not None:
            return []
        return [-self.main] if self.exit_code is not None else [self.main, -self.main]


def supervisor_command(module: str, folder: str) -> list[str]:
    """Return the command that runs the `main()` of a supervisor's module, whose package is in `folder`, with what is
    appended as `sys.argv[1:]`.

    Imported and not run as a script, so that its compiled code is kept. Behind the standard library on the path, so
    that nothing there takes the place of a module of it.
    """
    folders = list(dict.fromkeys((folder, HERE)))
    code = f"import sys; sys.path += {folders!r}; from {module} import main; sys.exit(main())"
    return [sys.executable, "-I", "-S", "-X", "utf8", "-c", code]

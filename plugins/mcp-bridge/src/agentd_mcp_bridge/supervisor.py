"""Starts one MCP server and ends it, with everything below it, when its host lets go of it.

Run as a script: `python -I -S supervisor.py LIFELINE GRACE_S COMMAND...`, with the standard library alone.
LIFELINE is the descriptor of a pipe whose other end the host alone holds. When the host closes it (on purpose,
or because it was killed), the server gets GRACE_S seconds to end by itself (its standard input is closed by
then), then TERM, then KILL. The byte `k` on the pipe skips the waiting.

On Linux this process is a sub-reaper: whatever the server started becomes its child when its parent dies,
however often it forked and changed its session, so nothing is left. Elsewhere the server's process group is
ended. The exit code is the server's, 128 + N for signal N, 127 if it could not be started.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # without importing typing, which takes longer than all the rest
    from collections.abc import Callable

TERM_S = 2.0
LEFTOVERS_S = 0.5
KILL_S = 5.0
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


class ServerSupervisor:
    """One server, from its start to its end."""

    def __init__(self, lifeline: int, grace_s: float, command: list[str]) -> None:
        self.lifeline = lifeline
        self.grace_s = grace_s
        self.prctl = _load_prctl()
        self.exit_code: int | None = None
        wake, self._woken = os.pipe()
        self._wake = wake
        os.set_blocking(wake, False)
        os.set_blocking(self._woken, False)
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # the lifeline alone decides
            signal.signal(getattr(signal, name), signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._woken, warn_on_full_buffer=False)
        if self.prctl is not None:
            self.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self.server = self._start(command)

    def _start(self, command: list[str]) -> int:
        os.set_inheritable(self.lifeline, False)
        parent = os.getpid()
        pid = os.fork()
        if pid:
            return pid
        try:
            os.setsid()
            if self.prctl is not None:
                self.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
                if os.getppid() != parent:
                    os._exit(1)
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE):
                signal.signal(number, signal.SIG_DFL)
            os.execvp(command[0], command)
        except OSError as error:
            os.write(2, f"{command[0]}: {error.strerror}\n".encode())
        finally:
            os._exit(127)

    # --- waiting -------------------------------------------------------------------------------

    def run(self) -> int:
        """Wait for the end of the server or of the host; return the exit code."""
        urgent = False
        letting_go = False
        while self.exit_code is None and not letting_go:
            ready = self._poll((self.lifeline, self._wake), None)
            self._reap()
            if self.lifeline in ready:
                letting_go = True
                urgent = os.read(self.lifeline, 1) == b"k"
        if letting_go and not urgent:
            self._wait(self.grace_s, until_server=True)
            self._signal_all(signal.SIGTERM)
            self._wait(TERM_S)
        elif not urgent:  # the server has ended by itself; what it left is not wanted
            self._signal_all(signal.SIGTERM)
            self._wait(LEFTOVERS_S)
        self._kill_all()
        return 1 if self.exit_code is None else self.exit_code

    def _wait(self, seconds: float, *, until_server: bool = False) -> None:
        """Wait until nothing is left (or the server has ended), or the time is up, or the host is impatient."""
        deadline = time.monotonic() + seconds
        watched = [self._wake, self.lifeline]
        while (remaining := deadline - time.monotonic()) > 0:
            self._reap()
            if (until_server and self.exit_code is not None) or not self._left():
                return
            if self.lifeline in self._poll(watched, remaining):
                if os.read(self.lifeline, 1) == b"k":
                    return
                watched = [self._wake]  # closed: it would be ready for ever

    def _poll(self, descriptors: list[int] | tuple[int, ...], seconds: float | None) -> list[int]:
        poller = select.poll()  # select() knows no descriptor above 1023
        for descriptor in descriptors:
            poller.register(descriptor, select.POLLIN)
        ready = [descriptor for descriptor, _ in poller.poll(None if seconds is None else seconds * 1000)]
        if self._wake in ready:
            try:
                os.read(self._wake, 4096)
            except BlockingIOError:
                pass
        return ready

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.server:
                code = os.waitstatus_to_exitcode(status)
                self.exit_code = code if code >= 0 else 128 - code

    # --- what is below -------------------------------------------------------------------------

    def _left(self) -> list[int]:
        """Return the processes below this one."""
        if self.prctl is None:
            return [] if self.exit_code is not None else [self.server]
        children: dict[int, list[int]] = {}
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    with open(f"/proc/{name}/stat", "rb") as file:
                        fields = file.read().rpartition(b")")[2].split()
                except OSError:
                    continue
                if fields[0] not in (b"Z", b"X"):
                    children.setdefault(int(fields[1]), []).append(int(name))
        found: list[int] = []
        waiting = [os.getpid()]
        while waiting:
            below = children.get(waiting.pop(), [])
            found += below
            waiting += below
        return found

    def _signal_all(self, number: int) -> None:
        for pid in self._left():
            try:
                os.kill(pid, number)
            except OSError:
                pass
        if self.prctl is None:
            try:
                os.killpg(self.server, number)
            except OSError:
                pass

    def _kill_all(self) -> None:
        deadline = time.monotonic() + KILL_S
        while time.monotonic() < deadline:
            self._reap()
            if not self._left():
                break
            self._signal_all(signal.SIGSTOP)  # a stopped process cannot fork away
            self._signal_all(signal.SIGKILL)
            self._poll((self._wake,), 0.02)
        if self.prctl is None:
            self._signal_all(signal.SIGKILL)


def _load_prctl() -> Callable[..., int] | None:
    """Return Linux's prctl(2), or None."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        import ctypes

        function: Callable[..., int] = ctypes.CDLL(None).prctl
        return function
    except (ImportError, OSError, AttributeError):
        return None


def main() -> int:
    """Supervise what the command line says."""
    supervisor = ServerSupervisor(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):  # or the server's pipes would not end when the server does
        os.dup2(null, number)
    return supervisor.run()


if __name__ == "__main__":
    sys.exit(main())

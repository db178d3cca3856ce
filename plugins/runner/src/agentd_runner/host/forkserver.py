"""Runners of the second and every further session: forks of one process that has everything imported.

An interpreter's start and its imports take most of a session's start, and most of its memory. A program with one
session has only its runner. From the second one at a time on, a *fork server* (the runner's command with the argument
`--serve`; see `agentd_runner.inside.fork_server`) starts the others, and shares its memory with them. It ends with the
last of them. It has nothing of any session: no environment, no pipe. Linux only: elsewhere there are no pidfds.
"""

from __future__ import annotations

import array
import contextlib
import errno
import os
import select
import signal
import socket
import subprocess
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence

from agentd_runner.host.line import LineEnds, line_pair
from agentd_runner.host.process import LocalProcess, spawn
from agentd_runner.inside import frames

__all__ = ["ForkServer", "ForkedProcess", "start_runner", "stream_pipes"]

FORK_S = 5.0  # how long the fork server may take for a runner, its own start included
COLLECT_S = 0.5  # and for an exit code, which is not worth more
TIDY_S = 0.5
FAILURES = 3  # in a row, after which runners are started without it: a kernel that has no pidfds, say
LINE = 3  # the descriptor of the direct line in a forked runner


class ForkServer:
    """The process, and the socket on which it is asked. Thread-safe.

    :param command: with the argument `--serve`, it answers as `agentd_runner.inside.fork_server` says.
    """

    def __init__(self, command: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lock = threading.Lock()
        self._runners: set[int] = set()  # pids
        self._broken = False
        try:
            with theirs:
                self._process = subprocess.Popen(
                    [*command, frames.SERVE],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env=env or {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"},
                    cwd="/",
                    start_new_session=True,
                )
        except BaseException:
            self._socket.close()
            raise

    def fork(self, descriptors: Sequence[int]) -> tuple[int, int]:
        """Start a runner on these descriptors (input, output, errors, and more); return its pid and a pidfd.

        Raises `BlockingIOError` if no process can be made, other `OSError`s if the fork server is gone.
        """
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
        with self._lock:
            self._socket.settimeout(FORK_S)
            try:
                self._socket.sendmsg([b"F"], rights)
                data, ancillary, *_ = self._socket.recvmsg(16, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC)
            except TimeoutError:
                self._broken = True  # its late answer would be taken for another one
                raise
            if data == b"0":
                raise BlockingIOError(errno.EAGAIN, "no new process can be made")
            if not ancillary:
                raise OSError(errno.EPIPE, "the fork server is gone")
            pid = int(data)
            self._runners.add(pid)
        (pidfd,) = array.array("i", ancillary[0][2])
        return pid, pidfd

    def collect(self, pid: int) -> int | None:
        """Return the exit code of a runner that has ended; None if the fork server cannot tell."""
        self._runners.discard(pid)
        if self._broken or not self._lock.acquire(timeout=COLLECT_S):
            return None
        try:
            self._socket.settimeout(COLLECT_S)
            self._socket.send(b"W%d" % pid)
            return os.waitstatus_to_exitcode(int(self._socket.recv(16)))
        except (OSError, ValueError):
            self._broken = True
            return None
        finally:
            self._lock.release()

    @property
    def is_of_use(self) -> bool:
        """False if it has no runner left, or does not answer."""
        return bool(self._runners) and not self._broken

    @property
    def has_ended(self) -> bool:
        """Whether the process has."""
        return self._process.poll() is not None

    def close(self) -> None:
        """End it; the runners go on."""
        self._socket.close()
        try:
            self._process.wait(0.0 if self._broken else 1.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def close_in_child(self) -> None:
        """Let go of the socket in a forked child, which would keep the process alive."""
        self._socket.close()
        self._process.returncode = 0  # it is not ours to wait for


class ForkedProcess:
    """A `RunnerProcess` that is the fork server's child. Its exit code is 255 if nobody can tell it."""

    def __init__(
        self,
        server: ForkServer,
        forked: tuple[int, int],
        ours: list[int],
        line: LineEnds,
        ended: Callable[[], object] = bool,
    ) -> None:
        self.pid, self._pidfd = forked
        self.stdin, self.stdout, self.stderr = ours
        self.line = line
        self._server = server
        self._ended = ended
        self._lock = threading.Lock()
        self._code: int | None = None

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def wait(self, timeout_s: float) -> int | None:
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        if self._code is None and not poll.poll(timeout_s * 1000):
            return None
        with self._lock:
            if self._code is None:
                code = self._server.collect(self.pid)
                self._code = 255 if code is None else code
        self._ended()
        return self._code

    def __del__(self) -> None:
        os.close(self._pidfd)  # not before: somebody may still be waiting on it


def stream_pipes(theirs: contextlib.ExitStack, ours: contextlib.ExitStack) -> tuple[list[int], list[int]]:
    """Return the ends of three pipes (input, output, errors): the process's, and ours; the stacks close them."""
    give: list[int] = []
    keep: list[int] = []
    for process_reads in (True, False, False):
        read, write = os.pipe()
        give.append(read if process_reads else write)
        keep.append(write if process_reads else read)
        theirs.callback(os.close, give[-1])
        ours.callback(os.close, keep[-1])
    return give, keep


class Starter:
    """Starts the runners of one command: the first as a child, those beside it as forks."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = list(command)
        self._lock = threading.RLock()  # to look whether a runner still runs may tidy up after it
        self._running: weakref.WeakSet[LocalProcess | ForkedProcess] = weakref.WeakSet()
        self._server: ForkServer | None = None
        self._failures = 0

    def start(self, env: Mapping[str, str]) -> LocalProcess | ForkedProcess:
        try:
            with self._lock:
                process: LocalProcess | ForkedProcess | None = None
                if self._may_fork() and any(other.wait(0) is None for other in list(self._running)):
                    process = self._fork()
                if process is None:
                    process = spawn(self._command, env, cwd="/", line=True)
                self._running.add(process)
                return process
        finally:
            self.tidy()  # what ended meanwhile did not wait for us

    def _may_fork(self) -> bool:
        return hasattr(os, "pidfd_open") and self._failures < FAILURES

    def _fork(self) -> ForkedProcess | None:
        """Start one as a fork; None if that does not work, which is no reason not to start one."""
        with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
            ends, line = line_pair()
            theirs.enter_context(line)
            ours.enter_context(ends.ours)
            give, keep = stream_pipes(theirs, ours)
            server = self._server
            try:
                server = server or ForkServer(self._command)
                forked = server.fork([*give, line.fileno()])
            except BlockingIOError:  # which a start without the fork server will meet, and tell
                return None
            except OSError:
                self._failures += 1
                self._server = None
                if server is not None:
                    server.close()
                return None
            self._server = server
            self._failures = 0
            ours.pop_all()
            return ForkedProcess(server, forked, keep, LineEnds(ends.ours, LINE), self.tidy)

    def tidy(self) -> None:
        """End a fork server that is of no use any more.

        Does not wait long for who is just starting a runner, which looks here afterwards: this may be the I/O thread.
        """
        while self._is_over() and self._lock.acquire(timeout=TIDY_S):
            try:
                if self._server is not None and self._is_over():
                    self._server.close()
                    self._server = None
            finally:
                self._lock.release()

    def _is_over(self) -> bool:
        server = self._server
        return server is not None and not server.is_of_use

    def close_in_child(self) -> None:
        if self._server is not None:
            self._server.close_in_child()


_starters: dict[tuple[str, ...], Starter] = {}
_starters_lock = threading.Lock()


def _forget_in_child() -> None:
    global _starters_lock
    for starter in _starters.values():
        starter.close_in_child()
    _starters.clear()
    _starters_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)


def start_runner(command: Sequence[str], env: Mapping[str, str]) -> LocalProcess | ForkedProcess:
    """Start a runner (`RunnerExecutor.runner_command`) as a plain child process, or as a fork beside others.

    `env` is what a plain child gets; a runner takes what its code sees from the host's first frame.

    :raises OSError: when the command cannot be started.
    """
    with _starters_lock:
        starter = _starters.setdefault(tuple(command), Starter(command))
    return starter.start(env)

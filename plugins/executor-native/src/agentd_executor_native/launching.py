"""What starts bubblewrap, and starting it: always from one thread, which lasts as long as this program.

bubblewrap is told to end with its parent (`--die-with-parent`), so that nothing outlives a program that is killed. To
the kernel, the parent is the thread that has started it: a pool's thread, which ends when it is idle, would end every
sandbox that it has started. As root, its parent is a process that forks all of them (`root_launcher`), and which that
thread has started.
"""

from __future__ import annotations

import atexit
import marshal
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any, Final, TypeVar

import attrs
from agentd_runner.artefact import INSIDE, NAME, folder_command
from agentd_runner.call_filter import filter_program
from agentd_runner.host.forkserver import ForkedProcess, ForkServer, stream_pipes
from agentd_runner.host.line import LineEnds, line_pair
from agentd_runner.host.process import LocalProcess

from agentd_executor_native import root_launcher
from agentd_executor_native.requirements import Bubblewrap
from agentd_executor_native.sources import MountSource

Result = TypeVar("Result")

__all__ = ["IDS", "SandboxStart", "held", "namespaces", "prepare_start", "start_sandboxed"]

IDS: Final = range(0x70000000, 0x7FFFFFF0)
"""User ids which systems and containers give to nobody; as root, a session takes one."""

_PACKAGES: Final = {
    "_agentd_launcher": os.path.dirname(root_launcher.__file__),
    NAME: str(INSIDE),
    "_agentd_port": os.path.join(os.path.dirname(root_launcher.__file__), "network", "inside"),
}
_BOOT: Final = root_launcher.BOOT.format(packages=_PACKAGES)
_ROOT_LAUNCHER: Final = (sys.executable, "-I", "-S", "-X", "utf8", "-c", _BOOT)

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
"""Of bubblewrap and the runner: neither code nor the option `env` chooses it. What code sees, the runner is told."""


def namespaces(bubblewrap: Bubblewrap) -> list[str]:
    """Return bubblewrap's options for what of the kernel is the sandbox's own."""
    return [
        *("--unshare-user", "--unshare-all", "--die-with-parent", "--new-session", "--as-pid-1"),
        *("--cap-drop", "ALL"),
        *("--hostname", "agentd"),
        *(("--disable-userns",) if bubblewrap.can_end_nesting else ()),
    ]


@attrs.frozen
class SandboxStart:
    """bubblewrap's options up to the mounts and behind them, and the command that it runs.

    :ivar runner: what of the command is the runner's; nothing if there is none.
    :ivar port: the descriptor over which the port of the proxy is handed over first; None without a proxy.
    """

    bubblewrap: str
    before: list[str]
    after: list[str]
    command: list[str]
    runner: list[str] = attrs.field(factory=list)
    port: int | None = None

    def by_us(self, uid: int, sources: Sequence[MountSource], stack: ExitStack) -> tuple[int, list[str]]:
        """Return what starts bubblewrap, and a descriptor that it inherits: others would read its command line.

        :param uid: who code is if we are root.
        """
        if os.geteuid() == 0:
            return self._as_user(uid, sources, stack)
        mounts = [part for source in sources for part in source.argument]
        options = [*self.before, *mounts, *self.after]
        given = held(b"".join(os.fsencode(option) + b"\0" for option in options), stack)
        return given, [self.bubblewrap, "--args", str(given), "--", *self.command]

    def _as_user(self, uid: int, sources: Sequence[MountSource], stack: ExitStack) -> tuple[int, list[str]]:
        """Return what starts the step before bubblewrap that gives up root, and its descriptor."""
        given = self.job(uid, sources, (), stack)
        return given, [*_ROOT_LAUNCHER, str(given)]

    def job(
        self,
        uid: int,
        sources: Sequence[MountSource],
        numbers: Sequence[int],
        stack: ExitStack,
        line: int | None = None,
    ) -> int:
        """Return a descriptor of what `root_launcher` is to do.

        :param numbers: the descriptors that a process which it forks is given, by the numbers that they have here.
        :param line: of these, the runner's direct line.
        """
        mounts = [
            {"descriptor": source.descriptor, "path": str(source.path), "writable": source.writable}
            for source in sources
        ]
        kept = None
        if line is not None and self.runner == folder_command(
            sys.executable
        ):  # the launcher's own interpreter
            kept = [line] if self.port is None else [line, self.port]
        job = {
            "bubblewrap": self.bubblewrap,
            "before": self.before,
            "after": self.after,
            "command": self.command,
            "uid": uid,
            "mounts": mounts,
            "numbers": list(numbers),
            "kept": kept,
            "port": self.port,
            "filter": filter_program(os.uname().machine),
        }
        return held(marshal.dumps(job), stack)


class _StartThread:
    """A thread that runs functions, one after the other."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def call(self, function: Callable[[], Result]) -> Result:
        return self.submit(function).result()

    def submit(self, function: Callable[[], Result]) -> Future[Result]:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="agentd-native-start", daemon=True)
                self._thread.start()
        future: Future[Result] = Future()
        self._jobs.put((function, future))
        return future

    def _work(self) -> None:
        while True:
            function, future = self._jobs.get()
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)
            del function, future  # a process that is given up must not be held until the next start


class RootForkServer:
    """The process that forks what becomes bubblewrap for a program of root's. It ends by itself when it has been idle.

    Without it, each start would wait for an interpreter.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._server: ForkServer | None = None
        # Those that do not answer. Their sandboxes would end with them.
        self._retired: list[ForkServer] = []

    def begin(self) -> None:
        """Start it, if it is not there and we are root: its interpreter starts while a sandbox is described."""
        if self._server is None and os.geteuid() == 0:
            _thread.submit(self._started)

    def _started(self) -> ForkServer:
        """Return it; to be called in the thread, and so once at a time."""
        if self._server is None:
            self._server = ForkServer(_ROOT_LAUNCHER, ENVIRONMENT)
        return self._server

    def fork(self, descriptors: Sequence[int]) -> tuple[ForkServer, tuple[int, int]] | None:
        """Return it with the pid and a pidfd of a process that it has forked; None if it cannot be had."""
        for _ in range(2):  # the one from before may have ended
            try:
                server = self._server or _thread.call(self._started)
            except OSError:
                return None
            try:
                return server, server.fork(descriptors)
            except BlockingIOError:  # no process can be made: it is told by the start without
                return None
            except OSError:
                self._retire(server)
        return None

    def _retire(self, server: ForkServer) -> None:
        with self._lock:
            if self._server is server:
                self._server = None
                self._retired.append(server)
            for one in [one for one in self._retired if one.has_ended]:
                self._retired.remove(one)
                one.close()

    def close(self) -> None:
        """End it at the program's end, when there is no sandbox left."""
        with self._lock:
            left, self._server, self._retired = [self._server, *self._retired], None, []
        for server in filter(None, left):
            server.close()

    def close_in_child(self) -> None:
        """Let go of it in a forked child."""
        for server in filter(None, [self._server, *self._retired]):
            server.close_in_child()


_thread = _StartThread()
_root_server = RootForkServer()


def _forget_in_child() -> None:
    global _thread, _root_server
    _root_server.close_in_child()
    _thread, _root_server = _StartThread(), RootForkServer()


os.register_at_fork(after_in_child=_forget_in_child)
atexit.register(lambda: _root_server.close())


def prepare_start() -> None:
    """Begin what a start needs and takes time. Does not wait."""
    _root_server.begin()


def held(data: bytes, stack: ExitStack) -> int:
    """Return a descriptor that `data` is read from. The stack closes it."""
    descriptor = os.memfd_create("agentd")
    stack.callback(os.close, descriptor)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(data)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def start_sandboxed(
    start: SandboxStart, uid: int, sources: Sequence[MountSource], descriptors: Sequence[int]
) -> LocalProcess | ForkedProcess:
    """Start a sandbox with a pipe each way and a direct line for tool calls, which bubblewrap hands on to the runner.

    :param uid: who code is if we are root.
    :param descriptors: what bubblewrap inherits under the same numbers.
    :raises OSError: when it cannot be started.
    """
    with ExitStack() as theirs, ExitStack() as ours:
        ends, end = line_pair()
        theirs.enter_context(end)
        ours.enter_context(ends.ours)
        inherited = [*(source.descriptor for source in sources), *descriptors, ends.theirs]
        process: LocalProcess | ForkedProcess | None = None
        if os.geteuid() == 0 and len(inherited) < root_launcher.MOST_DESCRIPTORS - 4:
            process = _forked(start.job(uid, sources, inherited, theirs, ends.theirs), inherited, ends, ours)
        if process is None:
            given, command = start.by_us(uid, sources, theirs)
            process = _thread.call(lambda: LocalProcess(_popen(command, [*inherited, given]), ends))
        ours.pop_all()  # it is started: the line is used
    return process


def _forked(job: int, inherited: Sequence[int], line: LineEnds, ours: ExitStack) -> ForkedProcess | None:
    with ExitStack() as theirs, ExitStack() as own:
        give, keep = stream_pipes(theirs, own)
        forked = _root_server.fork([*give, job, *inherited])
        if forked is None:
            return None
        ours.push(own.pop_all())
        server, process = forked
        return ForkedProcess(server, process, keep, line)


def _popen(command: Sequence[str], descriptors: Sequence[int]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        list(command),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
        cwd="/",
        bufsize=0,
        pass_fds=descriptors,
        start_new_session=True,
    )

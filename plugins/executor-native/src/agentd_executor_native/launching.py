"""What starts bubblewrap, and starting it: always from one thread, which lasts as long as this program.

bubblewrap is told to end with its parent (`--die-with-parent`), so that nothing outlives a program that is killed. To
the kernel, the parent is the thread that has started it: a pool's thread, which ends when it is idle, would end every
sandbox that it has started.
"""

from __future__ import annotations

import marshal
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any, Final

import attrs
from agentd_runner.host.line import line_pair
from agentd_runner.host.process import LocalProcess

from agentd_executor_native import root_launcher
from agentd_executor_native.requirements import Bubblewrap
from agentd_executor_native.sources import MountSource

__all__ = ["IDS", "SandboxStart", "held", "namespaces", "start_sandboxed"]

IDS: Final = range(0x70000000, 0x7FFFFFF0)
"""User ids which systems and containers give to nobody; as root, a session takes one."""

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
    """bubblewrap's options up to the mounts and behind them, and the command that it runs."""

    bubblewrap: str
    before: list[str]
    after: list[str]
    command: list[str]

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
        mounts = [
            {"descriptor": source.descriptor, "path": str(source.path), "writable": source.writable}
            for source in sources
        ]
        given = held(marshal.dumps({**attrs.asdict(self), "uid": uid, "mounts": mounts}), stack)
        return given, [sys.executable, "-I", "-S", "-X", "utf8", root_launcher.__file__, str(given)]


class _StartThread:
    """A thread that runs functions, one after the other."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def call(self, function: Callable[[], LocalProcess]) -> LocalProcess:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="agentd-native-start", daemon=True)
                self._thread.start()
        future: Future[LocalProcess] = Future()
        self._jobs.put((function, future))
        return future.result()

    def _work(self) -> None:
        while True:
            function, future = self._jobs.get()
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)
            del function, future  # a process that is given up must not be held until the next start


_thread = _StartThread()


def _forget_in_child() -> None:
    global _thread
    _thread = _StartThread()


os.register_at_fork(after_in_child=_forget_in_child)


def held(data: bytes, stack: ExitStack) -> int:
    """Return a descriptor that `data` is read from. The stack closes it."""
    descriptor = os.memfd_create("agentd")
    stack.callback(os.close, descriptor)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(data)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def start_sandboxed(command: Sequence[str], descriptors: Sequence[int]) -> LocalProcess:
    """Start a command with a pipe each way and a direct line for tool calls, which it hands on to the runner.

    :param descriptors: what the command inherits under the same numbers.
    :raises OSError: when the command cannot be started.
    """
    with ExitStack() as theirs, ExitStack() as ours:
        ends, end = line_pair()
        theirs.enter_context(end)
        ours.enter_context(ends.ours)
        process = _thread.call(lambda: LocalProcess(_popen(command, [*descriptors, ends.theirs]), ends))
        ours.pop_all()  # it is started: the line is used
    return process


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

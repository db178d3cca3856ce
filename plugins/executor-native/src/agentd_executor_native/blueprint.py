"""`Blueprint`: all that decides what a sandbox is. Until code runs there, one sandbox is as good as another."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import random
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import attrs
from agentd.statedir import make_private, user_state_dir
from agentd_runner.call_filter import filter_program
from agentd_runner.host.environment import Place
from agentd_runner.host.forkserver import ForkedProcess
from agentd_runner.host.process import LocalProcess
from agentd_runner.inside import frames

from agentd_executor_native.interpreter import needed_paths
from agentd_executor_native.launching import (
    IDS,
    SandboxStart,
    held,
    namespaces,
    prepare_start,
    start_sandboxed,
)
from agentd_executor_native.requirements import Bubblewrap
from agentd_executor_native.sources import MountSource, opened
from agentd_executor_native.standing import GIT_PATTERNS, GuardedNames, SandboxStandIns
from agentd_executor_native.view import Account, View, covered_by

__all__ = ["Blueprint", "StartedSandbox", "account_name"]

LONGEST_GREETING: Final = 1 << 16  # bytes: what a pipe holds that nobody reads yet

Shown = tuple[tuple[object, ...], ...]
"""What a sandbox shows of the host: what it is made of, and of each mount path, writability, device and inode."""


@attrs.define(eq=False)
class StartedSandbox:
    """A sandbox whose runner waits for its first frame.

    :ivar shown: what it shows of the host, as `Blueprint.shown` says.
    :ivar port: the end at which its listening socket for the proxy arrives; None without a network.
    :ivar is_greeted: the first frame has been sent.
    """

    process: LocalProcess | ForkedProcess
    stand_ins: SandboxStandIns
    shown: Shown
    port: socket.socket | None
    is_greeted: bool = False

    def greet(self, greeting: str) -> None:
        """Send the first frame of the sessions that it is for, and have workers made ahead. No code runs by that.

        What does not fit into the pipe is left to the session.
        """
        assert self.process.line is not None
        own = {"token": os.urandom(24).hex(), "line": self.process.line.theirs, "ahead": ["bash", "python"]}
        payload = json.dumps({**json.loads(greeting), **own}).encode()
        frame = frames.pack(frames.HELLO, 0, payload)
        if len(frame) <= LONGEST_GREETING:
            os.write(self.process.stdin, frame)
            self.is_greeted = True

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self.process.wait(0) is None

    def end(self) -> None:
        """End it, with what stood in for it. Only before anybody else has its process."""
        self.process.kill()
        self.process.wait(5.0)
        self.let_go()
        self.stand_ins.remove()

    def let_go(self) -> None:
        """Close what this process has of it."""
        if self.port is not None:
            self.port.close()
        if self.process.line is not None:
            self.process.line.ours.close()
        for descriptor in (self.process.stdin, self.process.stdout, self.process.stderr):
            with contextlib.suppress(OSError):
                os.close(descriptor)


@attrs.frozen(kw_only=True)
class Blueprint:
    """What a sandbox is made from.

    :ivar command: the runner's.
    :ivar home: what HOME is inside.
    :ivar read: the option, as `write` and `deny` are.
    :ivar layout: what of the renderer's files is to be seen.
    :ivar read_only: what of it cannot be changed.
    :ivar files: contents by path of more files of /etc.
    :ivar greeting: what the runner is told first (JSON): environment and limits, nothing that is one session's own.
    """

    place: Place
    bubblewrap: Bubblewrap
    python: str
    command: tuple[str, ...]
    home: str
    read: tuple[Path, ...]
    write: tuple[Path, ...]
    deny: tuple[Path, ...]
    layout: tuple[Path, ...]
    read_only: tuple[Path, ...]
    base_dir: Path | None
    allow_git_config: bool
    files: tuple[tuple[str, str], ...] = ()
    has_network: bool = False
    greeting: str = "{}"

    def start(self) -> StartedSandbox:
        """Start a sandbox. Raises `SandboxUnavailableError`, or `OSError` if bubblewrap cannot be started."""
        prepare_start()
        stand_ins = SandboxStandIns(self.place)
        guarded = self._guarded_names()
        stand_ins.make(guarded)
        try:
            with ExitStack() as stack:
                view = self._view(guarded)
                sources = stack.enter_context(opened(view))
                process, port = self._started(view, sources, stand_ins, stack)
                shown = _shown(view, sources)
        except BaseException:
            stand_ins.remove()
            raise
        stand_ins.belong_to(process)
        return StartedSandbox(process, stand_ins, shown, port)

    def shown(self) -> Shown:
        """Return what a sandbox would show if it were started now, with what stands in for another one."""
        view = self._view(self._guarded_names())
        with opened(view) as sources:
            return _shown(view, sources)

    def _started(
        self, view: View, sources: Sequence[MountSource], stand_ins: SandboxStandIns, stack: ExitStack
    ) -> tuple[LocalProcess | ForkedProcess, socket.socket | None]:
        account = _account(self.home)
        contents = {**account.files(), **dict(self.files), GIT_PATTERNS: stand_ins.patterns()}
        files = {name: held(text.encode(), stack) for name, text in contents.items()}
        calls = held(filter_program(os.uname().machine), stack)
        before = [*namespaces(self.bubblewrap), "--seccomp", str(calls), *view.before_mounts]
        for name, descriptor in files.items():
            before += ["--perms", "0444", "--file", str(descriptor), name]
        command, inherited, port = self._joined(stack)
        start = SandboxStart(
            bubblewrap=self.bubblewrap.path,
            before=before,
            after=view.after_mounts,
            command=command,
            runner=list(self.command),
            port=inherited[0] if inherited else None,
        )
        try:
            return start_sandboxed(start, account.uid, sources, [*inherited, *files.values(), calls]), port
        except BaseException:
            if port is not None:
                port.close()
            raise

    def _joined(self, stack: ExitStack) -> tuple[list[str], list[int], socket.socket | None]:
        """Return the runner's command, joined to the proxy if there is one; what it inherits; the host's end."""
        if not self.has_network:
            return list(self.command), [], None
        from agentd_executor_native.network import port_command

        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        stack.enter_context(theirs)
        return port_command(self.python, theirs.fileno(), self.command), [theirs.fileno()], ours

    def _guarded_names(self) -> GuardedNames:
        return GuardedNames.of(self.place.workspace, allow_git_config=self.allow_git_config)

    def _view(self, guarded: GuardedNames) -> View:
        write = tuple(dict.fromkeys(path.resolve() for path in (self.place.workspace, *self.write)))
        needed = needed_paths(self.python)
        layout = (*self.layout, *self.read_only)
        return View(
            write=write,
            read=(*needed, *self.read, *(path for path in layout if not covered_by(path, write))),
            guarded=(
                *(path for path in needed if covered_by(path, write)),
                *(path for path in self.read_only if covered_by(path, write)),
                *(self.place.workspace / name for name in guarded.all),
            ),
            deny=(*self.deny, *self._private()),
        )

    def _private(self) -> list[Path]:
        """Return agentd's own folders; they are made, for what is not there cannot be covered."""
        found = []
        for folder in (user_state_dir(), self.base_dir):
            if folder is not None and not self.place.workspace.is_relative_to(folder):
                with contextlib.suppress(OSError):
                    make_private(folder)
                found.append(folder)
        return found


def account_name() -> str:
    """Return the name of the user that code is."""
    if os.geteuid() == 0:
        return "agentd"
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a user without an account
        return "agentd"


def _account(home: str) -> Account:
    if os.geteuid() == 0:
        uid = random.SystemRandom().choice(IDS)
        return Account(account_name(), uid, uid, home)
    return Account(account_name(), os.getuid(), os.getgid(), home)


def _shown(view: View, sources: Sequence[MountSource]) -> Shown:
    mounts = []
    for source in sources:
        found = os.fstat(source.descriptor)
        mounts.append((source.path, source.writable, found.st_dev, found.st_ino))
    return (tuple(view.before_mounts), tuple(view.after_mounts), *mounts)

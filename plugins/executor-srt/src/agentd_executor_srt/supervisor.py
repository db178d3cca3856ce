"""Starts one srt and ends it, with everything below it, when its host lets go of it; then tidies up.

Run by `python -I -S -c "..." JOB` (see `process`), JOB being JSON (see `SandboxJob`), with the standard library
alone. The standard streams are the runner's; srt inherits them. Standard input is also the host's hand: when its
other end is closed (on purpose, or because the host was killed), the runner inside ends by itself; what has not ended
after `grace_s` is ended. TERM says: at once. srt is the last to be killed, for it takes its placeholder files away
when what it started has ended; should it have been killed itself, that is done here.

As root, srt and everything below it run as an unprivileged user that the workspace is handed over to (`handover`),
and this process, which stays root, hands it back. The exit code is srt's, or 125 if it was not started, with the
reason as a line on standard error.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time

from agentd_executor_srt.accounts import write_accounts
from agentd_executor_srt.handover import Tenancy
from agentd_executor_srt.stand_ins import StandIns
from agentd_executor_srt.user_limits import halve_user_limits

TYPE_CHECKING = False
if TYPE_CHECKING:  # without importing typing, which takes longer than all the rest
    from collections.abc import Callable
    from typing import Any

NOT_STARTED = 125
OURS = "agentd: "  # how a line begins that is not srt's
SRT_S = 3.0  # how long srt may take to tidy up when what it started has ended
KILL_S = 5.0
CONTROL_FD = 3
MAX_DESCRIPTOR = 1 << 16
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


class SandboxJob:
    """What the host asks for."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.command: list[str] = given["command"]
        self.workspace: str = given["workspace"]
        self.writable: list[str] = given["writable"]  # other folders that code may write to
        self.run_dir: str = given["run_dir"]  # srt's settings and sockets; removed at the end
        self.control: int = given["control"]  # the reading end of what tells srt new settings
        self.readable: list[str] = given["readable"]  # paths that must be reachable as another user, too
        self.mark: str = given["mark"]  # where it is written down what stands in for absent files
        self.stand_ins: dict[str, str] = given["stand_ins"]
        self.made: list[str] = given["made"]  # folders in the workspace that are removed if they are empty
        self.home: str = given["home"]
        self.grace_s: float = given["grace_s"]


class SandboxSupervisor:
    """One srt, from its start to its end."""

    def __init__(self, job: SandboxJob) -> None:
        self.job = job
        self.prctl = _load_prctl()
        self.exit_code: int | None = None
        self.urgent = False
        self._wake, self._woken = os.pipe()
        for descriptor in (self._wake, self._woken):
            os.set_blocking(descriptor, False)
        self.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        for name in ("SIGINT", "SIGHUP"):  # the host alone decides
            signal.signal(getattr(signal, name), signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._on_term)
        signal.set_wakeup_fd(self._woken, warn_on_full_buffer=False)
        self.tenancy: Tenancy | None = None
        self.stand_ins = StandIns(job.mark, job.workspace, job.stand_ins)
        try:
            if os.geteuid() == 0:
                self.tenancy = Tenancy(job.workspace, job.writable)
            self.srt = self._start()
        except BaseException:
            self.tidy()
            raise

    def _on_term(self, *_: object) -> None:
        self.urgent = True

    def _start(self) -> int:
        parent = os.getpid()
        if self.tenancy is not None:
            write_accounts(f"{self.job.run_dir}/accounts", self.tenancy.uid, self.job.home)
            _hand_run_dir(self.job.run_dir, self.tenancy.uid)
        pid = os.fork()
        if pid:
            return pid
        try:
            self._become_srt(parent)
        except Exception as error:
            os.write(2, f"{OURS}{error}\n".encode())
        finally:
            os._exit(NOT_STARTED)

    def _become_srt(self, parent: int) -> None:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        _leave_keyring()
        if self.tenancy is not None:
            self._drop(self.tenancy.uid)
        else:
            halve_user_limits()
        # TERM, so that srt can still tidy up; after the change of user, which would clear it.
        self.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(NOT_STARTED)
        os.chdir(self.job.workspace)
        os.dup2(self.job.control, CONTROL_FD, inheritable=True)
        os.closerange(CONTROL_FD + 1, MAX_DESCRIPTOR)
        try:
            os.execv(self.job.command[0], self.job.command)
        except OSError as error:
            raise OSError(f"cannot start {self.job.command[0]}: {error.strerror}") from None

    def _drop(self, uid: int) -> None:
        """Become the user of the session, with a way to what it needs."""
        from agentd_executor_srt.namespace import open_way

        open_way([self.job.workspace, *self.job.writable, self.job.run_dir], self.job.readable)
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        os.umask(0o022)

    # --- waiting -------------------------------------------------------------------------------

    def run(self) -> int:
        """Wait for the end of srt or of the host; return the exit code."""
        poller = select.poll()
        poller.register(self._wake, select.POLLIN)
        poller.register(0, 0)  # a hang-up is always told, and what there is to read is not ours
        deadline: float | None = None
        while not self.urgent:
            self._reap()
            if self.exit_code is not None:
                break
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                break
            ready = poller.poll(None if left is None else max(1, left * 1000))
            self._drain()
            if any(descriptor == 0 for descriptor, _ in ready):
                poller.unregister(0)
                deadline = time.monotonic() + self.job.grace_s
        self._end_srt()
        self._kill_all()
        return NOT_STARTED if self.exit_code is None else self.exit_code

    def _drain(self) -> None:
        try:
            os.read(self._wake, 4096)
        except BlockingIOError:
            pass

    def _end_srt(self) -> None:
        """End what runs below srt and let srt tidy up after it."""
        deadline = time.monotonic() + SRT_S
        while self.exit_code is None and time.monotonic() < deadline:
            _signal(_below(self.srt), signal.SIGKILL)
            self._wait(0.05)
            self._reap()
            if self.exit_code is None and not _below(self.srt):
                _signal([self.srt], signal.SIGTERM)  # it had not started anything yet

    def _wait(self, seconds: float) -> None:
        select.select([self._wake], [], [], seconds)
        self._drain()

    def _kill_all(self) -> None:
        deadline = time.monotonic() + KILL_S
        # Until there is no child, living or dead: orphans become the supervisor's, so then there is nothing below it.
        while self._reap() and time.monotonic() < deadline:
            left = _below(os.getpid())
            _signal(left, signal.SIGSTOP)  # a stopped process cannot fork away
            _signal(left, signal.SIGKILL)
            self._wait(0.02)

    def _reap(self) -> bool:
        """Take the children that have ended; return whether there are others."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.srt:
                code = os.waitstatus_to_exitcode(status)
                self.exit_code = code if code >= 0 else 128 - code

    # --- tidying up ----------------------------------------------------------------------------

    def tidy(self) -> None:
        """Leave the workspace as its code made it, and nothing else."""
        for step in (self._remove_made, self.stand_ins.remove, self._settle_files):
            try:
                step()
            except OSError as error:  # the host has removed the workspace, say: what can be done still is
                print(f"{OURS}{error}", file=sys.stderr)
        _remove_all(self.job.run_dir)

    def _remove_made(self) -> None:
        root = os.open(self.job.workspace, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in self.job.made:
                _ignore_errors(lambda name: os.rmdir(name, dir_fd=root), name)
        finally:
            os.close(root)

    def _settle_files(self) -> None:
        if self.tenancy is not None:
            self.tenancy.give_back()


def _remove_all(run_dir: str) -> None:
    """Remove the folder; nothing in the sandbox could write there (shutil takes longer to import than this)."""
    for folder, folders, files in os.walk(run_dir, topdown=False):
        for name in files:
            _ignore_errors(os.unlink, f"{folder}/{name}")
        for name in folders:
            path = f"{folder}/{name}"
            _ignore_errors(os.unlink if os.path.islink(path) else os.rmdir, path)
    _ignore_errors(os.rmdir, run_dir)
    # The folder of all sandboxes (`run_dir`), from which the last one is gone.
    _ignore_errors(os.rmdir, os.path.dirname(run_dir))


def _ignore_errors(function: Callable[[str], None], path: str) -> None:
    try:
        function(path)
    except OSError:
        pass


def _hand_run_dir(run_dir: str, uid: int) -> None:
    for name in os.listdir(run_dir):
        os.chown(f"{run_dir}/{name}", uid, uid, follow_symlinks=False)
    os.chown(run_dir, uid, uid)


def _below(root: int) -> list[int]:
    """Return the living processes below `root`."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    fields = file.read().rpartition(b")")[2].split()
            except OSError:  # it has ended meanwhile
                continue
            if fields[0] not in (b"Z", b"X"):
                children.setdefault(int(fields[1]), []).append(int(name))
    found: list[int] = []
    todo = [root]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def _signal(pids: list[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except OSError:
            pass


def _leave_keyring() -> None:
    """Begin an empty session keyring: in the host's, programs keep tickets and keys."""
    import ctypes

    number = {"x86_64": 250, "aarch64": 219}.get(os.uname().machine)  # keyctl; libc has no function for it
    if number is not None:
        ctypes.CDLL(None).syscall(number, 1, None)  # KEYCTL_JOIN_SESSION_KEYRING


def _load_prctl() -> Callable[..., int]:
    import ctypes

    function: Callable[..., int] = ctypes.CDLL(None).prctl
    return function


def main() -> int:
    """Supervise what the command line says."""
    job = SandboxJob(json.loads(sys.argv[1]))
    try:
        supervisor = SandboxSupervisor(job)
    except Exception as error:  # the host shows what is said here
        print(f"{OURS}{error}", file=sys.stderr, flush=True)
        _remove_all(job.run_dir)
        return NOT_STARTED
    # The runner's output and the last word of srt end when srt does, not when this process does.
    null = os.open(os.devnull, os.O_RDWR)
    for number in (1, 2):
        os.dup2(null, number)
    os.close(job.control)
    code = supervisor.run()
    supervisor.tidy()
    return code

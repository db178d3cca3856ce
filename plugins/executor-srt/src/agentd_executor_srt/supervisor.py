"""Starts one srt and ends it, with everything below it, when its host lets go of it; then tidies up.

Run by `agentd_runner.reaper.supervisor_command` with the descriptor of its `SandboxJob` as the argument, and the
standard library alone, without `json`: its import would be a quarter of this one's. The standard streams are the
runner's; srt inherits them. Standard input is also the host's hand: when its other end is closed (on purpose, or
because the host was killed), the runner inside ends by itself; what has not ended after `grace_s` is ended. TERM
says: at once. srt is the last to be killed, for it tidies up when what it started has ended. What stands in the
workspace for absent files is made before and taken away here (`stand_ins`).

As root, srt and everything below it run as an unprivileged user that the workspace is handed over to (`handover`),
and this process, which stays root, hands it back. The exit code is srt's, or 125 if it was not started, with the
reason as a line on standard error.
"""

from __future__ import annotations

import marshal
import os
import signal
import sys
import time

from agentd_runner.inside.processes import children_of, descendants, signal_all
from agentd_runner.reaper import SubReaper
from agentd_runner.stand_ins import StandIns

from agentd_executor_srt.accounts import write_accounts
from agentd_executor_srt.handover import MISSED, Tenancy
from agentd_executor_srt.user_limits import halve_user_limits

TYPE_CHECKING = False
if TYPE_CHECKING:  # without importing typing, which takes longer than all the rest
    from collections.abc import Callable
    from typing import Any

NOT_STARTED = 125
OURS = "agentd: "  # how a line begins that is not srt's
SRT_S = 3.0  # how long srt may take to tidy up when what it started has ended
STEP_S = 0.02  # for how long nothing else is looked at while large folders are handed over
CONTROL_FD = 3
MAX_DESCRIPTOR = 1 << 16


class SandboxJob:
    """What the host asks for."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.command: list[str] = given["command"]
        self.workspace: str = given["workspace"]
        self.writable: list[str] = given["writable"]  # other folders that code may write to
        self.run_dir: str = given["run_dir"]  # srt's settings and sockets; removed at the end
        self.control: int = given[
            "control"
        ]  # what tells srt new settings is read there; closed by `tidy_more`
        self.readable: list[str] = given["readable"]  # paths that must be reachable as another user, too
        self.mark: str = given["mark"]  # where it is written down what stands in for absent files
        self.stand_ins: dict[str, str] = given["stand_ins"]
        self.made: list[str] = given["made"]  # folders in the workspace that are removed if they are empty
        self.home: str = given["home"]
        self.grace_s: float = given["grace_s"]
        self.giving_s: float = given["giving_s"]  # how long the start waits for `writable` to be handed over


class SandboxSupervisor:
    """One srt, from its start to its end."""

    def __init__(self, job: SandboxJob) -> None:
        self.job = job
        self.urgent = False
        self.reaper = SubReaper(on_term=self._hurry)
        self.tenancy: Tenancy | None = None
        self.missed: list[str] = []
        self.stand_ins = StandIns(job.mark, job.workspace, job.stand_ins)
        try:
            if os.geteuid() == 0:
                self.tenancy = Tenancy(job.workspace, job.writable, job.giving_s)
                write_accounts(f"{job.run_dir}/accounts", self.tenancy.uid, job.home)
                _hand_run_dir(job.run_dir, self.tenancy.uid)
            self.reaper.start(self._become_srt, not_started=NOT_STARTED)
        except BaseException:
            self.tidy()
            self.tidy_more()
            raise

    def _hurry(self) -> None:
        self.urgent = True

    def _become_srt(self) -> None:
        try:
            _leave_keyring()
            if self.tenancy is not None:
                self._drop(self.tenancy.uid)
            else:
                halve_user_limits()
            os.chdir(self.job.workspace)
            os.dup2(self.job.control, CONTROL_FD, inheritable=True)
            os.closerange(CONTROL_FD + 1, MAX_DESCRIPTOR)
            self.reaper.end_with_parent(signal.SIGTERM)  # so that srt can still tidy up
            _execute(self.job.command)
        except Exception as error:
            os.write(2, f"{OURS}{error}\n".encode())

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
        watched = {0: 0}  # a hang-up is always told, and what there is to read is not ours
        deadline: float | None = None
        while not self.urgent:
            self.reaper.reap()
            left = None if deadline is None else deadline - time.monotonic()
            if self.reaper.exit_code is not None or (left is not None and left <= 0):
                break
            if self.reaper.wait(0 if self._hand_on() else left, watched):
                watched = {}
                deadline = time.monotonic() + self.job.grace_s
        self._end_srt()
        self.reaper.kill_below()
        return NOT_STARTED if self.reaper.exit_code is None else self.reaper.exit_code

    def _hand_on(self) -> bool:
        """Hand over some more of a large folder; return whether that goes on."""
        try:
            return self.tenancy is not None and self.tenancy.hand_on(time.monotonic() + STEP_S)
        except OSError:  # the host has removed it, say; code cannot write to the rest
            return False

    def _end_srt(self) -> None:
        """End what runs below srt and let srt tidy up after it."""
        deadline = time.monotonic() + SRT_S
        srt = self.reaper.main
        while self.reaper.exit_code is None and time.monotonic() < deadline:
            signal_all(descendants(children_of(srt)), signal.SIGKILL)
            self.reaper.wait(0.05, {})
            self.reaper.reap()
            if self.reaper.exit_code is None and not children_of(srt):
                signal_all([srt], signal.SIGTERM)  # it had not started anything yet

    # --- tidying up ----------------------------------------------------------------------------

    def tidy(self) -> None:
        """Leave the workspace as its code made it, and nothing else."""
        for step in (self._remove_made, self.stand_ins.remove, self._settle_files):
            try:
                step()
            except OSError as error:  # the host has removed the workspace, say: what can be done still is
                print(f"{OURS}{error}", file=sys.stderr)
        _remove_all(self.job.run_dir)
        self._tell_missed()

    def tidy_more(self) -> None:
        """Tell the host that the workspace is its own again, and give back what it need not wait for."""
        os.close(self.job.control)
        if self.tenancy is not None:
            self.missed = self.tenancy.give_back_more()
            self._tell_missed()

    def _tell_missed(self) -> None:
        if self.missed:  # the host reads it, and removes it
            os.makedirs(self.job.run_dir, mode=0o700, exist_ok=True)
            with open(f"{self.job.run_dir}/{MISSED}", "a") as file:
                file.writelines(f"{what}\n" for what in self.missed)

    def _remove_made(self) -> None:
        root = os.open(self.job.workspace, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in self.job.made:
                _ignore_errors(lambda name: os.rmdir(name, dir_fd=root), name)
        finally:
            os.close(root)

    def _settle_files(self) -> None:
        if self.tenancy is not None:
            self.missed = self.tenancy.give_back()


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


def _execute(command: list[str]) -> None:
    try:
        os.execv(command[0], command)
    except OSError as error:
        raise OSError(f"cannot start {command[0]}: {error.strerror}") from None


def _leave_keyring() -> None:
    """Begin an empty session keyring: in the host's, programs keep tickets and keys."""
    import ctypes

    number = {"x86_64": 250, "aarch64": 219}.get(os.uname().machine)  # keyctl; libc has no function for it
    if number is not None:
        ctypes.CDLL(None).syscall(number, 1, None)  # KEYCTL_JOIN_SESSION_KEYRING


def main() -> int:
    """Supervise what the command line says."""
    with open(int(sys.argv[1]), "rb") as given:
        job = SandboxJob(marshal.load(given))  # from the host, which is the same interpreter
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
    code = supervisor.run()
    supervisor.tidy()
    supervisor.tidy_more()
    return code

"""Whether this machine can run the sandbox: found out by starting one, once in a process."""

from __future__ import annotations

import os
import subprocess
from contextlib import ExitStack

from agentd.errors import SandboxUnavailableError
from agentd_runner.call_filter import filter_program

from agentd_executor_native.launching import ENVIRONMENT, IDS, SandboxStart, held, namespaces
from agentd_executor_native.requirements import (
    Bubblewrap,
    UnfitMachineError,
    explain,
    find_bubblewrap,
    is_refused,
)
from agentd_executor_native.view import View

__all__ = ["obstacle"]

_found: dict[str, str] = {}


def obstacle() -> str:
    """Return what keeps the sandbox from running on this machine, or nothing.

    The first answer holds for the process: what code does later, and what runs out, does not change it. Neither does
    the workspace, which code can change: nothing of it is shown to the sandbox that is tried.

    :raises SandboxUnavailableError: if it did not start for a reason that may be gone the next time. That is no answer.
    """
    if "obstacle" not in _found:
        try:
            _try()
            reason = ""
        except UnfitMachineError as error:
            reason = str(error)
        _found.setdefault("obstacle", reason)  # of several threads, the first one's
    return _found["obstacle"]


def _try() -> None:
    bubblewrap = find_bubblewrap()
    try:
        done = _start(bubblewrap)
    except (OSError, subprocess.SubprocessError) as error:
        raise SandboxUnavailableError(f"the sandbox native did not start: {error}") from error
    if done.returncode != 0:
        reason = explain(done.stderr, bubblewrap)
        if is_refused(done.stderr):
            raise UnfitMachineError(reason)
        raise SandboxUnavailableError(f"the sandbox native did not start: {reason}")


def _start(bubblewrap: Bubblewrap) -> subprocess.CompletedProcess[str]:
    """Start a sandbox that shows the system alone, and in it a program that is there in any case: bubblewrap's own."""
    view = View(write=(), read=(), guarded=(), deny=())
    with ExitStack() as stack:
        calls = held(filter_program(os.uname().machine), stack)
        before = [*namespaces(bubblewrap), "--seccomp", str(calls), *view.before_mounts]
        command = [os.path.realpath(bubblewrap.path), "--version"]
        given, start = SandboxStart(bubblewrap.path, before, view.after_mounts, command).by_us(
            IDS[-1], (), stack
        )
        return subprocess.run(
            start,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=20,
            check=False,
            env=ENVIRONMENT,
            cwd="/",
            pass_fds=(calls, given),
            start_new_session=True,
        )

"""How a runner process is held: its pipe, its end. `spawn` starts one from a local command."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import attrs

from agentd_runner.host.line import LineEnds, line_pair

__all__ = ["LastWait", "LocalProcess", "RunnerProcess", "spawn"]

EXIT_CODE_S = 0.2  # how long a runner whose pipe was closed may take to end with an exit code
GONE_S = 5.0  # how long one that was killed may take to be gone


class RunnerProcess(Protocol):
    """A started runner. The three descriptors belong to this process object until they are closed by it.

    `stdin` and `stdout` carry frames; `stderr` (or -1) is text for people: why a sandbox would not start.
    """

    pid: int
    stdin: int
    stdout: int
    stderr: int

    def kill(self) -> None:
        """End it at once."""
        ...

    def wait(self, timeout_s: float) -> int | None:
        """Return its exit code, or None if it is still there after `timeout_s` seconds."""
        ...


class LocalProcess:
    """A `RunnerProcess` around `subprocess.Popen`, with a direct line for tool calls if there is one."""

    def __init__(self, process: subprocess.Popen[bytes], line: LineEnds | None = None) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self._process = process
        self.pid = process.pid
        self.line = line
        # Duplicates, so that Popen's file objects cannot close a descriptor that the I/O thread still uses.
        self.stdin, self.stdout, self.stderr = (
            os.dup(stream.fileno()) for stream in (process.stdin, process.stdout, process.stderr)
        )
        for stream in (process.stdin, process.stdout, process.stderr):
            stream.close()

    def kill(self) -> None:
        # Only the runner itself: its supervisors see it go and end their trees. A kill of the whole group
        # would take the supervisors first and leave what they watch.
        self._process.kill()

    def wait(self, timeout_s: float) -> int | None:
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None


def spawn(command: Sequence[str], env: Mapping[str, str], cwd: str, *, line: bool = False) -> LocalProcess:
    """Start `command` with exactly this environment, in a session of its own, with a pipe each way.

    :param cwd: not the workspace: a runner must not import or hold anything of it.
    :param line: the runner is this process itself, not one in a sandbox: give it a direct line for tool calls, too.
    :raises OSError: when the command cannot be started.
    """
    with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
        ends = None
        if line:
            ends, end = line_pair()
            theirs.enter_context(end)
            ours.enter_context(ends.ours)
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(env),
            cwd=cwd,
            bufsize=0,
            pass_fds=() if ends is None else (ends.theirs,),
            start_new_session=True,
        )
        ours.pop_all()  # it is started: the line is used
    return LocalProcess(process, ends)


@attrs.frozen(eq=False)
class LastWait:
    """Waits, in a thread, for the end of a runner whose pipe is closed, and tells its exit code if it has one."""

    process: RunnerProcess
    tell_end: Callable[[int | None], object]

    def run(self) -> None:
        code = self.process.wait(EXIT_CODE_S)
        if code is None:
            self.process.kill()
        self.tell_end(code)
        self.process.wait(GONE_S)  # or it stays as a zombie

"""The command as a person runs it: a real process, on pipes or on a pseudo-terminal."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from agentd_demo.recording import Turn
    from agentd_demo.replay import ReplayFault, ReplayServer

__all__ = ["Command", "Survivors", "Terminal", "agentd", "survivors"]

# Makes the slave side of the pseudo-terminal the controlling terminal, so that ^C sends SIGINT.
_ON_A_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


class Terminal:
    """A process on a pseudo-terminal of its own."""

    def __init__(self, command: Sequence[str], env: dict[str, str], cwd: Path, columns: int) -> None:
        self._master, slave = pty.openpty()
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _ON_A_TERMINAL, *command],
                stdin=slave,
                stdout=slave,
                stderr=slave,
                env={**env, "TERM": "xterm-256color", "COLUMNS": str(columns), "LINES": "40"},
                cwd=cwd,
                start_new_session=True,
            )
        finally:
            os.close(slave)
        self.output = ""

    def read_until(self, text: str, timeout_s: float = 60) -> None:
        """Read until `text` was shown; the output so far is in the error if it never is."""
        if not self._read(lambda: text in self.output, timeout_s):
            raise AssertionError(f"{text!r} was never shown; what was: {self.output}")

    def _read(self, enough: Callable[[], bool], timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while not enough():
            ready, _, _ = select.select([self._master], [], [], max(0, deadline - time.monotonic()))
            if not ready:
                return False
            try:
                data = os.read(self._master, 65536)
            except OSError:  # EIO: nobody has the other side open any more
                return enough()
            if not data:
                return enough()
            self.output += data.decode("utf-8", "replace").replace("\r\n", "\n")
        return True

    def type(self, text: str) -> None:
        """Type a line."""
        os.write(self._master, f"{text}\n".encode())

    def press_ctrl_c(self) -> None:
        """Type it; the terminal sends SIGINT to the foreground process group."""
        os.write(self._master, b"\x03")

    def hang_up(self) -> None:
        """Close the terminal; the kernel sends SIGHUP."""
        os.close(self._master)
        self._master = -1

    def wait(self, timeout_s: float = 60) -> int:
        """Read the rest and return the exit code."""
        self._read(lambda: False, timeout_s)
        return self.process.wait(timeout_s)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self._master >= 0:
            os.close(self._master)


class Command:
    """Runs `agentd` in a directory of its own, with an environment that holds no one's settings."""

    def __init__(self, cwd: Path) -> None:
        self.cwd = cwd
        self.command = [sys.executable, "-m", "agentd"]
        self.env = {**os.environ, "PYTHONWARNINGS": "error", "COLUMNS": "100"}
        self.env["AGENTD_EXECUTOR"] = "subprocess"  # the same with and without bubblewrap
        self._servers: list[ReplayServer] = []
        self._terminals: list[Terminal] = []
        self._processes: list[subprocess.Popen[str]] = []

    def replay(self, *turns: str | Turn, faults: dict[int, ReplayFault] | None = None) -> ReplayServer:
        """Start a replayed model and point the command to it."""
        from agentd_demo.recording import Recording  # here: the other commands need no demo
        from agentd_demo.replay import ReplayServer

        server = ReplayServer(Recording.of(turns), faults=faults)
        server.start()
        self._servers.append(server)
        self.env |= {"OPENAI_BASE_URL": server.base_url, "OPENAI_MODEL": "replayed", "OPENAI_API_KEY": "none"}
        return server

    def __call__(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run it with pipes; without `stdin`, standard input is empty."""
        return subprocess.run(
            [*self.command, *arguments],
            input=stdin or "",
            capture_output=True,
            text=True,
            env=self.env,
            cwd=self.cwd,
            timeout=100,
        )

    def popen(self, *arguments: str) -> subprocess.Popen[str]:
        """Start it with pipes."""
        process = subprocess.Popen(
            [*self.command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.env,
            cwd=self.cwd,
        )
        self._processes.append(process)
        return process

    def on_terminal(self, *arguments: str, columns: int = 100) -> Terminal:
        """Start it on a pseudo-terminal."""
        terminal = Terminal([*self.command, *arguments], self.env, self.cwd, columns)
        self._terminals.append(terminal)
        return terminal

    def close(self) -> None:
        for terminal in self._terminals:
            terminal.close()
        for process in self._processes:
            process.kill()
            with process:  # closes its pipes and waits
                pass
        for server in self._servers:
            server.close()


@pytest.fixture
def agentd(tmp_path: Path) -> Iterator[Command]:
    """The command `agentd`, in an empty directory."""
    cwd = tmp_path / "here"
    cwd.mkdir()
    command = Command(cwd)
    yield command
    command.close()


class Survivors:
    """The processes whose command line mentions a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = str(directory)

    def now(self) -> list[str]:
        """List them as they are."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
                except OSError:
                    continue
                if self._directory in line:
                    found.append(line)
        return found

    def wait_for(self, number: int) -> None:
        """Wait until there are as many."""
        deadline = time.monotonic() + 30
        while len(found := self.now()) < number:
            assert time.monotonic() < deadline, found
            time.sleep(0.02)

    def left(self) -> list[str]:
        """List them when those that were killed have left the table; what survives, survives the wait, too."""
        deadline = time.monotonic() + 10
        while (found := self.now()) and time.monotonic() < deadline:
            time.sleep(0.02)
        return found


@pytest.fixture
def survivors(tmp_path: Path) -> Survivors:
    """The processes that mention this test's directory."""
    return Survivors(tmp_path)

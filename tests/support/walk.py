"""A walk through a page: its titled code blocks, carried out in order by a person with several terminals."""

from __future__ import annotations

import fcntl
import os
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs
import pyte

__all__ = ["Block", "Terminal", "blocks_of", "free_port", "person_path"]

PATIENCE_S = 60.0  # a loaded machine; what is awaited comes at once otherwise
_BLOCK = re.compile(r'^```(?P<kind>\w+) title="(?P<title>[^"]+)"\n(?P<text>.*?)^```$', re.M | re.S)
# Makes the terminal the controlling one, as a shell has it.
_ON_A_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""


@attrs.frozen
class Block:
    """A code block with a title: what kind of text it is, and whose."""

    kind: str
    title: str
    text: str


def blocks_of(page: str) -> list[Block]:
    """Return the titled blocks of a page, in order."""
    return [Block(m["kind"], m["title"], m["text"]) for m in _BLOCK.finditer(page)]


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def person_path(folder: Path, npm_servers: Mapping[str, list[str]]) -> str:
    """Make a folder for PATH with what a person has, and return it. `npx` and `uvx` start what is installed already.

    Node.js is not in it: mcp-server-fetch would get a package from npm then.
    """
    folder.mkdir()
    scripts = Path(sys.executable).parent
    for name in ("agentd", "mcp-server-fetch"):
        (folder / name).symlink_to(scripts / name)
    _script(
        folder / "uvx",
        f'name="$1"; shift\n'
        f'if [ "$name" = mcp-server-fetch ]; then set -- --allow-private-ips "$@"; fi\n'
        f'exec {scripts}/"$name" "$@"\n',
    )
    (folder / "python3").symlink_to(sys.executable)
    for name in ("bash", "cat", "mkdir"):
        (folder / name).symlink_to(str(shutil.which(name)))
    cases = "".join(f'{name}) exec {" ".join(argv)} "$@" ;;\n' for name, argv in npm_servers.items())
    _script(folder / "npx", f'name="$2"; shift 2\ncase "$name" in\n{cases}esac\nexit 1\n')
    return str(folder)


def _script(path: Path, text: str) -> None:
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)


class Terminal:
    """A command on a terminal of its own, which pyte draws."""

    def __init__(self, command: Sequence[str], *, env: Mapping[str, str], cwd: Path) -> None:
        self.screen = pyte.HistoryScreen(100, 50, history=5000, ratio=0.1)
        self._stream = pyte.ByteStream(self.screen)
        self._master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 100, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-c", _ON_A_TERMINAL, *command],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**env, "TERM": "xterm-256color"},
            cwd=cwd,
            start_new_session=True,
        )
        os.close(slave)

    def close(self) -> None:
        """Close the terminal, and kill what runs in it."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        os.close(self._master)

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._master, keys.encode())

    def text(self) -> str:
        """What stands on the screen."""
        return "\n".join(row.rstrip() for row in self.screen.display)

    def see(self, *lines: str) -> None:
        """Look until all the lines are on the screen, in this order; each may be a part of a row, `...` is anything."""
        pattern = re.compile(".*?".join(re.escape(line).replace(r"\.\.\.", ".*?") for line in lines), re.S)
        deadline = time.monotonic() + PATIENCE_S
        while not pattern.search(self.text()):
            assert self._look(deadline), f"not seen: {lines}; on the screen:\n{self.text()}"

    def end(self) -> int:
        """Look on until the command ends; return its exit code."""
        deadline = time.monotonic() + PATIENCE_S
        while self._look(deadline):
            pass
        return self.process.wait(max(1.0, deadline - time.monotonic()))

    def _look(self, deadline: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return False
        try:
            data = os.read(self._master, 65_536)
        except OSError:  # EIO: nobody has the other side open any more
            return False
        self._stream.feed(data)
        return bool(data)

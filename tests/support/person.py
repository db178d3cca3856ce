"""A person at a pseudo-terminal: types, and looks at the screen that pyte makes of what arrives."""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import pyte

PROGRAM = Path(__file__).with_name("repl_daemon.py")
PATIENCE_S = 60.0  # a loaded machine; what is awaited comes at once otherwise

# Makes the terminal the controlling one, so that ^C sends SIGINT where a program leaves that to it.
_ON_A_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


class Person:
    """The REPL, or another program, in a process of its own, with a terminal of `columns` x `rows`."""

    def __init__(
        self,
        *,
        columns: int = 80,
        rows: int = 24,
        env: Mapping[str, str] | None = None,
        history: Path | None = None,
        program: Sequence[str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.screen = pyte.HistoryScreen(columns, rows, history=50_000, ratio=0.1)
        self.raw = b""
        self._stream = pyte.ByteStream(self.screen)
        self._master, slave = os.openpty()
        self._set_size(columns, rows)
        orders, self._orders = os.pipe()
        self._log, log = os.pipe()
        self._noted = b""
        command = [sys.executable, str(PROGRAM), str(orders), str(log), *([str(history)] if history else [])]
        if program is not None:
            command = [sys.executable, "-c", _ON_A_TERMINAL, *program]
        inherited = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "COLORTERM")}
        self.process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**inherited, "TERM": "xterm-256color", "PYTHONWARNINGS": "error", **(env or {})},
            start_new_session=True,
            cwd=cwd,
            pass_fds=(orders, log),
        )
        for fd in (slave, orders, log):
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        for fd in (self._master, self._orders, self._log):
            if fd >= 0:
                os.close(fd)

    # --- the terminal ---

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._master, text.encode())

    def paste(self, text: str) -> None:
        """Paste text, as terminals do that mark it (bracketed paste)."""
        self.type(f"\x1b[200~{text}\x1b[201~")

    def resize(self, columns: int, rows: int) -> None:
        """Give the terminal another size."""
        self._set_size(columns, rows)
        self.screen.resize(rows, columns)

    def _set_size(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def hang_up(self) -> None:
        """Close the terminal."""
        os.close(self._master)
        self._master = -1

    # --- what can be seen ---

    def shown(self) -> list[str]:
        """The rows on the screen, without trailing blanks."""
        return [row.rstrip() for row in self.screen.display]

    def everything(self) -> list[str]:
        """The rows that have scrolled away, and those on the screen."""
        width = self.screen.columns
        gone = ["".join(row[x].data for x in range(width)).rstrip() for row in self.screen.history.top]
        return gone + self.shown()

    def prompt(self) -> str:
        """The row that the cursor is in."""
        return self.shown()[self.screen.cursor.y]

    def see(self, what: str | Callable[[], bool]) -> None:
        """Look until a text is on the screen, or something holds."""

        def holds() -> bool:
            return any(what in row for row in self.shown()) if isinstance(what, str) else what()

        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            assert self._look(deadline), f"not seen: {what!r}; on the screen:\n" + "\n".join(self.shown())

    def _look(self, deadline: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return False
        try:
            data = os.read(self._master, 65_536)
        except OSError:  # the program has closed its end
            return False
        self.raw += data
        self._stream.feed(data)
        return bool(data)

    def wait(self) -> int:
        """Look on until the program ends; return its exit code."""
        deadline = time.monotonic() + PATIENCE_S
        while self._master >= 0 and self._look(deadline):
            pass
        return self.process.wait(max(1.0, deadline - time.monotonic()))

    # --- the daemon ---

    def order(self, **order: Any) -> None:
        """Tell the daemon what happens."""
        os.write(self._orders, json.dumps(order).encode() + b"\n")

    def emit(self, agent: str, event: str, **fields: Any) -> None:
        """Let an agent's run emit an event."""
        self.order(emit=agent, event=event, fields=fields)

    def heard(self) -> list[Any]:
        """Wait for the next call that the REPL has made of the daemon."""
        deadline = time.monotonic() + PATIENCE_S
        while b"\n" not in self._noted:
            ready, _, _ = select.select([self._log], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(self._log, 65_536) if ready else b""
            assert data, "the daemon heard nothing; on the screen:\n" + "\n".join(self.shown())
            self._noted += data
        line, _, self._noted = self._noted.partition(b"\n")
        heard = json.loads(line)
        assert isinstance(heard, list)
        return heard

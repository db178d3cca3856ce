"""The terminal to write to, which never holds up the daemon.

A terminal may stop taking output for as long as it likes: a suspended SSH client, a stopped multiplexer. A
blocking write would then stop every agent of the daemon, so writes do not block: what the terminal does not
take waits here, and `clogged` says so.
"""

from __future__ import annotations

import asyncio
import os
import select
import time
from typing import TextIO

from agentd_cli.prompt.output import terminal_output
from prompt_toolkit.output.vt100 import Vt100_Output

__all__ = ["TerminalStream", "open_terminal"]

_LAST_WORDS_S = 0.5  # how long a terminal may take for what is left at the end


class TerminalStream:
    """What prompt_toolkit writes to: a stream of text over a descriptor of our own for the same terminal."""

    def __init__(self, terminal: TextIO) -> None:
        self.encoding = terminal.encoding or "utf-8"
        self._fd = _own_descriptor(terminal.fileno())
        self._text: list[str] = []
        self._waiting = b""
        self._watched: asyncio.AbstractEventLoop | None = None
        self.gone = False  # the terminal is no longer there
        self.held = False  # `flush` waits for more, so that several steps reach the terminal in one

    @property
    def clogged(self) -> bool:
        """Whether the terminal has not taken yet what was written."""
        return bool(self._waiting)

    def write(self, text: str) -> int:
        """Add text; `flush` sends it."""
        self._text.append(text)
        return len(text)

    def flush(self) -> None:
        """Send as much as the terminal takes now, the rest when it takes more."""
        if self.held:
            return
        self._encode()
        self._send()
        if self._waiting and self._watched is None:
            self._watched = asyncio.get_running_loop()
            self._watched.add_writer(self._fd, self._send)

    def _encode(self) -> None:
        self._waiting += "".join(self._text).encode(self.encoding, "replace")
        self._text.clear()

    def _send(self) -> None:
        try:
            while self._waiting:
                self._waiting = self._waiting[os.write(self._fd, self._waiting) :]
        except BlockingIOError:
            return
        except OSError:
            # Its end is seen by whoever reads from it; nobody would read this.
            self.gone = True
            self._waiting = b""
        self._unwatch()

    def _unwatch(self) -> None:
        if self._watched is not None:
            self._watched.remove_writer(self._fd)
            self._watched = None

    def isatty(self) -> bool:
        """True: it is a terminal."""
        return True

    def close(self) -> None:
        """Send the rest if the terminal takes it in half a second, and close the descriptor."""
        self._unwatch()
        self._encode()
        deadline = time.monotonic() + _LAST_WORDS_S
        ready = select.poll()
        ready.register(self._fd, select.POLLOUT)
        while self._waiting and (left_s := deadline - time.monotonic()) > 0:
            ready.poll(left_s * 1000)
            self._send()
        os.close(self._fd)


def _own_descriptor(fd: int) -> int:
    # Opened anew rather than duplicated: O_NONBLOCK belongs to the open file, which the shell and our own
    # children share with us.
    try:
        return os.open(os.ttyname(fd), os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return os.dup(fd)  # no name in this container: then writes may block


def open_terminal(terminal: TextIO) -> tuple[Vt100_Output, TerminalStream]:
    """Return prompt_toolkit's output for a terminal, and the stream below it, to be closed at the end."""
    stream = TerminalStream(terminal)
    return terminal_output(stream, terminal.fileno()), stream

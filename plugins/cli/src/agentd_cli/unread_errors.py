"""Standard error of a server whose client may never read it: whatever is written there waits for nobody.

A client that starts a server with a pipe as its standard error and does not read that stops the server where it logs,
once the pipe is full (64 KiB).
"""

from __future__ import annotations

import fcntl
import os
import select
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import inf
from threading import Thread
from time import monotonic
from typing import Final

__all__ = ["reader_of_errors", "relayed_errors"]

_ABOVE_STANDARD: Final = 3
_MOST_READ: Final = 1 << 16
_MOST_KEPT: Final = 1 << 20
_LAST_S: Final = 0.5
"""What is still to be written at the end may take so long."""
_readers: Final = [2]


def reader_of_errors() -> int:
    """Return the descriptor of the reader itself: for what a process writes that ends before its threads do more."""
    return _readers[-1]


@contextmanager
def relayed_errors() -> Iterator[None]:
    """While entered, a thread passes on what anything in this process, or below it, writes to standard error. Up to
    1 MiB waits for the reader; what comes then is left out, and the reader is told how many lines that were.

    A file and a terminal stay as they are: nobody has to read the one, and somebody does the other.
    """
    mode = os.fstat(2).st_mode
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        yield
        return
    target = fcntl.fcntl(2, fcntl.F_DUPFD_CLOEXEC, _ABOVE_STANDARD)
    source, written = os.pipe()
    os.dup2(written, 2)
    os.close(written)
    relay = _ErrorRelay(source, target)
    _readers.append(target)
    try:
        yield
    finally:
        _readers.remove(target)
        with suppress(OSError, ValueError):  # closed, say
            sys.stderr.flush()
        os.dup2(target, 2)
        if not relay.finish():
            _write_to_nobody()


def _write_to_nobody() -> None:
    """The reader takes nothing: an error with which the command ends must not wait for it, either."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)


class _ErrorRelay:
    """Passes on what comes from one descriptor to another one, in a thread, and closes both."""

    def __init__(self, source: int, target: int) -> None:
        self._source = source
        self._target = target
        self._ending, self._end = os.pipe()
        self._kept = _KeptErrors()
        self._is_open = True
        self._thread = Thread(target=self._run, name="agentd-stderr", daemon=True)
        self._thread.start()

    def finish(self) -> bool:
        """Pass on what is there, if that takes but a moment, and tell whether all of it was."""
        os.close(self._end)
        self._thread.join(2 * _LAST_S)
        return not self._thread.is_alive() and not self._kept.waiting

    def _run(self) -> None:
        deadline = inf
        while True:
            ready = self._poll(deadline)
            if self._ending in ready and deadline == inf:
                deadline = monotonic() + _LAST_S
            if self._source in ready:
                self._kept.add(data := os.read(self._source, _MOST_READ))
                self._is_open = bool(data)
            if self._target in ready:
                self._write()
            is_idle = self._source not in ready and not self._kept.waiting
            if deadline != inf and (is_idle or monotonic() >= deadline):
                break
        for descriptor in (self._source, self._target, self._ending):
            os.close(descriptor)

    def _poll(self, deadline: float) -> dict[int, int]:
        """Wait until there is something to do, and return the descriptors that are ready."""
        poll = select.poll()
        if self._is_open:
            poll.register(self._source, select.POLLIN)
        if self._kept.waiting:
            poll.register(self._target, select.POLLOUT)
        if deadline == inf:
            poll.register(self._ending, select.POLLIN)
            return dict(poll.poll())
        left_s = deadline - monotonic() if self._kept.waiting else 0.0
        return dict(poll.poll(max(0.0, left_s) * 1000))

    def _write(self) -> None:
        try:
            # So much a pipe that is ready takes without waiting.
            written = os.write(self._target, self._kept.waiting[: select.PIPE_BUF])
        except BlockingIOError:
            return
        except OSError:  # the reader has gone
            written = len(self._kept.waiting)
        self._kept.passed(written)


class _KeptErrors:
    """What waits for the reader: whole lines are left out of it when there is no room, until it has read the rest.

    :ivar waiting: is to be passed on next.
    """

    def __init__(self, most_bytes: int = _MOST_KEPT) -> None:
        self.waiting = bytearray()
        self._most_bytes = most_bytes
        self._is_full = False
        self._left_out = 0
        self._leaves_out_line = False
        self._is_line_open = False  # of what is kept

    def add(self, data: bytes) -> None:
        """Take what was written."""
        for piece in data.splitlines(keepends=True):
            self._is_full = self._is_full or len(self.waiting) + len(piece) > self._most_bytes
            if self._is_full and not self._leaves_out_line:
                self._left_out += 1
                self._leaves_out_line = True
            if not self._leaves_out_line:
                self.waiting += piece
                self._is_line_open = not piece.endswith(b"\n")
            if piece.endswith(b"\n"):
                self._leaves_out_line = False

    def passed(self, size: int) -> None:
        """So much of it was passed on."""
        del self.waiting[:size]
        if self._left_out and not self.waiting:
            told = f"agentd: {self._left_out:,} lines are left out here, as nobody has read them\n"
            self.waiting += b"\n" * self._is_line_open + told.encode()
            self._is_full, self._left_out, self._is_line_open = False, 0, False

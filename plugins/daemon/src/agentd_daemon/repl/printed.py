"""Printed text: what the process itself prints (logs, warnings, tracebacks) goes above the prompt, too."""

from __future__ import annotations

import asyncio
import io
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

__all__ = ["printed_above"]


class _Diverted(io.TextIOBase):
    """A stand-in for standard output or standard error that passes on whole lines, from any thread."""

    def __init__(self, before: TextIO, show: Callable[[list[str]], None]) -> None:
        self._before = before
        self._show = show
        self._loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._open = ""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._before.encoding

    def fileno(self) -> int:
        """Whoever gives it to a child process needs the real one."""
        return self._before.fileno()

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        with self._lock:
            if self._loop is None:  # somebody has kept this object
                return self._before.write(text)
            *lines, self._open = (self._open + text).split("\n")
            if lines:
                self._loop.call_soon_threadsafe(self._show, lines)
        return len(text)

    def flush(self) -> None:
        if self._loop is None:
            self._before.flush()

    def end(self) -> list[str]:
        """Pass on what comes from now on as it is; return the line that was not finished."""
        with self._lock:
            self._loop = None
            rest, self._open = self._open, ""
        return [rest] if rest else []


@contextmanager
def printed_above(show: Callable[[list[str]], None]) -> Iterator[None]:
    """While entered, call `show` in the running loop with the lines that are printed.

    Streams that somebody has taken hold of before (a logging handler with a stream of its own) are not diverted.
    """
    before = sys.stdout, sys.stderr
    diverted = _Diverted(sys.stdout, show), _Diverted(sys.stderr, show)
    sys.stdout, sys.stderr = diverted
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        for stream in diverted:
            show(stream.end())

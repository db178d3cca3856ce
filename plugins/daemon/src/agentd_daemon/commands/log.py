"""The daemon's log on standard error: whole lines, of ours and of the libraries, that hold nobody up."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from agentd_sink_console.neutral import NeutralFormatter, one_line

from agentd_daemon.commands.outlet import Outlet, write_whole

__all__ = ["log_written"]

MAX_CHARS: Final = 16_384
"""Of one record; a traceback has many lines."""
SAME_S: Final = 10.0
"""A library's message is told once in so many seconds; the others are counted."""


@contextmanager
def log_written(level: int) -> Iterator[None]:
    """While entered, write the log. A reader that pauses gets what it can, and is told how much it missed."""
    # Where systemd reads it, the journal has the time itself.
    time_format = "" if os.environ.get("JOURNAL_STREAM") else "%(asctime)s "
    with Outlet(
        _write, dropped=lambda count: f"... {count} lines of the log were dropped".encode()
    ) as outlet:
        ours = _OutletHandler(outlet)
        ours.setFormatter(NeutralFormatter(f"{time_format}%(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S"))
        libraries = _OutletHandler(outlet, logging.WARNING)
        libraries.setFormatter(
            _LineFormatter(f"{time_format}%(levelname)s %(name)s: %(message)s", "%Y-%m-%d %H:%M:%S")
        )
        libraries.addFilter(_Seldom())
        agentd, root = logging.getLogger("agentd"), logging.getLogger()
        before = agentd.handlers, agentd.level, agentd.propagate
        agentd.handlers, agentd.propagate = [ours], False
        agentd.setLevel(level)
        root.addHandler(libraries)
        try:
            yield
        finally:
            root.removeHandler(libraries)
            agentd.handlers, _, agentd.propagate = before
            agentd.setLevel(before[1])


def _write(data: bytes) -> None:
    """Write to what `sys.stderr` is now: the prompt diverts it while it is there."""
    stream = sys.stderr
    if stream is sys.__stderr__ and stream is not None:
        # Past the stream: a thread that waits for a reader while the interpreter ends must not hold its lock.
        write_whole(stream.fileno(), data)
    else:
        stream.write(data.decode("utf-8", "replace"))
        stream.flush()


class _OutletHandler(logging.Handler):
    def __init__(self, outlet: Outlet, level: int = logging.NOTSET) -> None:
        super().__init__(level)
        self._outlet = outlet

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._outlet.put(self.format(record)[:MAX_CHARS].encode("utf-8", "replace"))
        except Exception:
            self.handleError(record)


class _LineFormatter(NeutralFormatter):
    """Says what a library's exception is, without the way to it."""

    def format(self, record: logging.LogRecord) -> str:
        error = record.exc_info[1] if record.exc_info else None
        record = logging.makeLogRecord(
            {**record.__dict__, "exc_info": None, "exc_text": None, "stack_info": None}
        )
        line = super().format(record)
        return line if error is None else f"{line}: {type(error).__name__}: {one_line(str(error))[:500]}"


class _Seldom(logging.Filter):
    """Passes a message of a library once in `SAME_S`, and tells how often it came meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[tuple[str, str], float] = {}
        self._kept_back: dict[tuple[str, str], int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        key, now = (record.name, str(record.msg)[:200]), time.monotonic()
        if now - self._last.get(key, float("-inf")) < SAME_S:
            self._kept_back[key] = self._kept_back.get(key, 0) + 1
            return False
        if len(self._last) > 1000:  # messages that are put together by hand are all different
            self._last.clear()
            self._kept_back.clear()
        self._last[key] = now
        if count := self._kept_back.pop(key, 0):
            record.msg, record.args = f"{record.getMessage()} ({count} more before)", None
        return True

"""Lines for whoever reads our output, written by a thread: a reader that pauses holds nobody up."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Final, Self

from agentd._concurrency.channel import Channel

__all__ = ["Outlet", "write_whole"]

MAX_WAITING: Final = 10_000
"""Lines that are kept for a reader that pauses; newer ones are dropped and counted."""
LAST_LINES_S: Final = 2.0


class Outlet:
    """Writes lines as long as it is entered.

    :param write: writes bytes, in the thread; an `OSError` is the end.
    :param dropped: makes a line that tells how many were dropped.
    :param on_broken: called once, in the thread, when nobody reads any more.
    """

    def __init__(
        self,
        write: Callable[[bytes], object],
        *,
        dropped: Callable[[int], bytes],
        on_broken: Callable[[], object] = lambda: None,
    ) -> None:
        self._write = write
        self._dropped_line = dropped
        self._on_broken = on_broken
        self._lines: Channel[bytes] = Channel(limit=MAX_WAITING)
        self._dropped = 0
        self._counting = threading.Lock()
        self._thread = threading.Thread(target=self._write_all, name="agentd-outlet", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        """Write what waits, as far as somebody reads it."""
        self._lines.close()
        self._thread.join(LAST_LINES_S)

    def put(self, line: bytes) -> None:
        """Have a line written, without its end; returns at once. From any thread."""
        if self._lines.is_full():
            with self._counting:
                self._dropped += 1
        else:
            self._lines.put(line + b"\n")

    def _next(self) -> bytes:
        lines = self._lines.batch_sync()
        with self._counting:
            dropped, self._dropped = self._dropped, 0
        if lines and dropped:
            lines.append(self._dropped_line(dropped) + b"\n")
        return b"".join(lines)

    def _write_all(self) -> None:
        while lines := self._next():
            try:
                self._write(lines)
            except OSError:
                self._lines.close()
                self._on_broken()
                return


def write_whole(descriptor: int, data: bytes) -> None:
    """Write all of it."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]

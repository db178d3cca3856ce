"""Lines for whoever reads our standard output, written by a thread: a reader that pauses holds nobody up."""

from __future__ import annotations

import json
import os
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, Self

__all__ = ["Outlet"]

MAX_WAITING: Final = 10_000
"""Lines that are kept for a reader that pauses; newer ones are dropped and counted."""
LAST_LINES_S: Final = 2.0


class Outlet:
    """Writes objects as JSON lines. What was dropped is told in a line `{"type": "dropped", "count": N}`.

    :param descriptor: where to; it stays open.
    :param on_broken: called once, in the thread, when nobody reads any more.
    """

    def __init__(self, descriptor: int, on_broken: Callable[[], object]) -> None:
        self._descriptor = descriptor
        self._on_broken = on_broken
        self._waiting: deque[bytes] = deque()
        self._dropped = 0
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._write_all, name="agentd-outlet", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        """Write what waits, as far as somebody reads it."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(LAST_LINES_S)

    def put(self, item: Mapping[str, Any]) -> None:
        """Have it written; returns at once."""
        line = json.dumps(item).encode() + b"\n"
        with self._changed:
            if self._closed:
                return
            if len(self._waiting) >= MAX_WAITING:
                self._dropped += 1
            else:
                self._waiting.append(line)
                self._changed.notify()

    def _next(self) -> bytes | None:
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            if not self._waiting:
                return None
            lines = b"".join(self._waiting)
            self._waiting.clear()
            if self._dropped:
                lines += json.dumps({"type": "dropped", "count": self._dropped}).encode() + b"\n"
                self._dropped = 0
            return lines

    def _write_all(self) -> None:
        while (lines := self._next()) is not None:
            rest = memoryview(lines)
            try:
                while rest:
                    rest = rest[os.write(self._descriptor, rest) :]
            except OSError:
                with self._changed:
                    self._closed = True
                    self._waiting.clear()
                self._on_broken()
                return

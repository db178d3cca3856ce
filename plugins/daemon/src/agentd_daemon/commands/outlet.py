"""Lines for whoever reads our standard output, written by a thread: a reader that pauses holds nobody up."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final, Self

from agentd._concurrency.channel import Channel

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

    def put(self, item: Mapping[str, Any]) -> None:
        """Have it written; returns at once."""
        if self._lines.is_full():
            with self._counting:
                self._dropped += 1
        else:
            self._lines.put(json.dumps(item).encode() + b"\n")

    def _next(self) -> bytes:
        lines = self._lines.batch_sync()
        with self._counting:
            dropped, self._dropped = self._dropped, 0
        if lines and dropped:
            lines.append(json.dumps({"type": "dropped", "count": dropped}).encode() + b"\n")
        return b"".join(lines)

    def _write_all(self) -> None:
        while lines := self._next():
            rest = memoryview(lines)
            try:
                while rest:
                    rest = rest[os.write(self._descriptor, rest) :]
            except OSError:
                self._lines.close()
                self._on_broken()
                return

"""What sources report besides results - progress and log messages - at a rate that a reader can follow.

Both may be called from any thread, never block and never raise: they are in the hands of foreign code. A
message that has to wait is sent by the thread that watches time-outs.
"""

from __future__ import annotations

import itertools
import logging
import math
import threading
import time
from collections.abc import Callable
from typing import Final

import attrs
from agentd.events import Approval, SourceLog, ToolProgress

from agentd_tools.deadlines import watcher

__all__ = ["LogReport", "ProgressReport", "Tell"]

Tell = Callable[[Approval | ToolProgress | SourceLog], None]

PROGRESS_PAUSE_S: Final = 0.05
LOG_BURST: Final = 100
LOGS_PER_S: Final = 20.0
_TELL_DROPPED_S: Final = 1.0
_MESSAGE_CHARS: Final = 500
_LOG_CHARS: Final = 4000
_LEVELS: Final = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")

_log: Final = logging.getLogger("agentd.tools")
_keys: Final = itertools.count(-1, -1)  # the watcher's other keys are the numbers of calls, above zero


class ProgressReport:
    """How far one call is: at most 20 events a second; the newest and the last one always come.

    :param id: with `name` and `code_id` as in the call's own event.
    """

    def __init__(self, id: str, name: str, code_id: str, tell: Tell) -> None:
        self.deadline = 0.0
        self._event = ToolProgress(id=id, name=name, code_id=code_id)
        self._tell = tell
        self._key = next(_keys)
        self._lock = threading.Lock()
        self._newest: ToolProgress | None = None
        self._over = False

    def __call__(self, done: float, total: float | None = None, message: str = "") -> None:
        """Take a report of the source."""
        if not _is_number(done):
            return
        total = total if _is_number(total) else None
        event = attrs.evolve(self._event, done=done, total=total, message=_cut(message, _MESSAGE_CHARS))
        with self._lock:
            if self._over:
                return
            waits, self._newest = self._newest is not None, event
            if waits:
                return
            now = time.monotonic()
            if now >= self.deadline:
                self._send(now)
                return
        watcher.watch(self._key, self)

    def _send(self, now: float) -> None:
        event, self._newest = self._newest, None
        self.deadline = now + PROGRESS_PAUSE_S
        if event is not None:
            self._tell(event)

    def expire(self) -> None:
        """Send what had to wait. Called by the watcher."""
        with self._lock:
            self._send(time.monotonic())

    def finish(self) -> None:
        """The call is over: send what still waits; what comes later is ignored."""
        with self._lock:
            self._over = True
            self._send(0.0)
        watcher.forget(self._key)


class LogReport:
    """The log messages of one source: bursts of 100, then 20 a second; what is left out is counted.

    A `agentd.protocols.SourceHost`'s `log`.
    """

    def __init__(self, source: str, tell: Tell) -> None:
        self.deadline = 0.0
        self._source = source
        self._tell = tell
        self._key = next(_keys)
        self._lock = threading.Lock()
        self._room = float(LOG_BURST)
        self._filled = time.monotonic()
        self._dropped = 0

    def __call__(self, level: str, text: str) -> None:
        """Take a message of the source."""
        level = level if level in _LEVELS else "info"
        text = _cut(text, _LOG_CHARS)
        _log.debug("%s: %s: %s", self._source, level, text)
        with self._lock:
            now = time.monotonic()
            self._room = min(float(LOG_BURST), self._room + (now - self._filled) * LOGS_PER_S)
            self._filled = now
            if self._room >= 1:
                self._room -= 1
                self._tell_dropped()
                self._tell(SourceLog(source=self._source, level=level, text=text))
                return
            self._dropped += 1
            if self._dropped > 1:
                return
            self.deadline = now + _TELL_DROPPED_S
        watcher.watch(self._key, self)

    def _tell_dropped(self) -> None:
        dropped, self._dropped = self._dropped, 0
        if dropped:
            text = f"{dropped} log messages of this source are left out: it sends too many"
            self._tell(SourceLog(source=self._source, level="notice", text=text))

    def expire(self) -> None:
        """Say how many were left out. Called by the watcher."""
        with self._lock:
            self._tell_dropped()


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _cut(text: object, limit: int) -> str:
    shown = text if isinstance(text, str) else repr(text)
    return shown if len(shown) <= limit else f"{shown[:limit]}... ({len(shown)} characters)"

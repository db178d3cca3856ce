"""The signals of the daemon: what each one asks for, and the deadline of an orderly end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType
from typing import Any, Final, Self

from agentd_cli import exits
from agentd_cli.interrupts import code_of, end_now, second_signal_ends

__all__ = ["Signals"]

STOP_S: Final = 30.0
"""How long an orderly end may take: running code, servers that ignore TERM."""


class Signals:
    """While entered, TERM and INT ask for an orderly end, and HUP for the configuration to be read again.

    A second TERM or INT, or an orderly end that takes longer than `STOP_S`, kills all processes below this one and
    ends it. The handlers are the interpreter's and not the event loop's: a loop that is held up, by whoever does not
    read our output, say, must not keep the process alive.

    :ivar exit_code: 130 after INT, 143 after TERM, what `end` was given, None before.
    """

    def __init__(self) -> None:
        self.exit_code: int | None = None
        self._stop: Callable[[], object] | None = None
        self._reload: Callable[[], object] | None = None
        self._before: dict[int, Any] = {}
        self._timer: threading.Timer | None = None
        self._watch = ExitStack()

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._before[number] = signal.signal(number, self._on_signal)
        self._watch.enter_context(second_signal_ends(self.limit))
        return self

    def __exit__(self, *exc: object) -> None:
        self._watch.close()
        for number, handler in self._before.items():
            signal.signal(number, handler)
        # The deadline stays: the process has not ended yet, and a thread that hangs would keep it from that.

    @contextmanager
    def obeyed_by(self, *, stop: Callable[[], object], reload: Callable[[], object]) -> Iterator[None]:
        """While entered, call these, in a signal handler or a thread: they may only wake an event loop. `stop` is
        called at once if the end was asked for before."""
        self._stop, self._reload = stop, reload
        if self.exit_code is not None:
            stop()
        try:
            yield
        finally:
            self._stop = self._reload = None

    def end(self, exit_code: int) -> None:
        """Ask for an orderly end, as a signal does; from any thread. The first code stays."""
        if self.exit_code is None:
            self.exit_code = exit_code
        self.limit()
        if self._stop is not None:
            with suppress(RuntimeError):  # the loop has just been closed: it is the end already
                self._stop()

    def limit(self) -> None:
        """Have an orderly end, which has begun, end within `STOP_S`."""
        if self._timer is None:
            self._timer = threading.Timer(STOP_S, self._too_long)
            self._timer.daemon = True
            self._timer.start()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            if self._reload is not None:
                self._reload()
            return
        code = code_of(number)
        if self.exit_code is not None:
            end_now(code)
        self.end(code)

    def _too_long(self) -> None:
        end_now(self.exit_code or exits.TERMINATED, "the orderly end took too long; ending now")

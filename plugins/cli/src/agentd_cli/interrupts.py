"""Ctrl-C: the first one cancels and cleans up, the second one ends now."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any, NoReturn, Self

from agentd_cli import exits

__all__ = ["Interrupts", "end_now"]


def _children_of(pid: int) -> list[int]:
    """List the processes below `pid`, parents before their children (Linux; elsewhere none)."""
    found: list[int] = []
    todo = [pid]
    while todo:
        parent = todo.pop()
        try:
            tasks = os.listdir(f"/proc/{parent}/task")
        except OSError:
            continue
        for task in tasks:
            with suppress(OSError), open(f"/proc/{parent}/task/{task}/children") as listing:
                children = [int(word) for word in listing.read().split()]
                found += children
                todo += children
    return found


def end_now(code: int = exits.INTERRUPTED, reason: str = "") -> NoReturn:
    """Kill every process below this one and leave without any clean-up; `reason` is told after that."""
    known: list[int] = []
    # Stopped processes start nothing more; look again for what was started in the meantime.
    while new := [pid for pid in _children_of(os.getpid()) if pid not in known]:
        known += new
        for pid in new:
            with suppress(OSError):
                os.kill(pid, signal.SIGSTOP)
    for pid in known:
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    if reason:
        with suppress(OSError):
            os.set_blocking(2, False)  # whoever does not read it must not hold this up
            os.write(2, f"agentd: {reason}\n".encode())
    os._exit(code)


class Interrupts:
    """While entered, the first SIGINT or SIGTERM calls `on_first`, the second ends the process at once.

    `on_first` (default: raise KeyboardInterrupt) runs in a signal handler of the main thread, so it may only
    raise or wake an event loop. Does nothing when entered in another thread. `exit_code` is 130 after
    SIGINT, 143 after SIGTERM, None before.
    """

    def __init__(self, on_first: Callable[[], None] | None = None) -> None:
        self.on_first = on_first
        self.exit_code: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        code = exits.INTERRUPTED if number == signal.SIGINT else exits.TERMINATED
        if self.exit_code is not None:
            end_now(code)
        self.exit_code = code
        if os.isatty(2):
            # os.write: a signal handler must not re-enter a buffered stream
            os.write(2, b"\nagentd: stopping; Ctrl-C again ends it now\n")
        if self.on_first is None:
            raise KeyboardInterrupt
        self.on_first()

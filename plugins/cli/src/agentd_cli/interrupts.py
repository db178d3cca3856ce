"""Ctrl-C: the first one cancels and cleans up, the second one ends now."""

from __future__ import annotations

import errno
import os
import signal
import socket
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn, Self

from agentd_cli import exits
from agentd_cli.unread_errors import reader_of_errors

__all__ = ["Interrupts", "code_of", "end_now", "leave_terminal", "second_signal_ends"]


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
            reader = reader_of_errors()
            os.set_blocking(reader, False)  # whoever does not read it must not hold this up
            os.write(reader, f"agentd: {reason}\n".encode())
    os._exit(code)


def code_of(number: int) -> int:
    """Return the exit code after SIGINT, SIGTERM or SIGHUP."""
    return 128 + number


def leave_terminal() -> None:
    """Drop what is written from now on, if the terminal has gone: nobody reads it, and to write it would fail."""
    for number in (1, 2):
        try:
            termios.tcgetattr(number)
        except termios.error as error:
            if error.args[0] == errno.EIO:
                os.dup2(os.open(os.devnull, os.O_WRONLY), number)


@contextmanager
def second_signal_ends(on_first: Callable[[], object] = lambda: None) -> Iterator[None]:
    """While entered, the second SIGINT or SIGTERM ends the process, wherever its main thread is.

    A handler written in Python waits for the main thread. If that is about to wait in a system call (to write to a
    pipe that nobody reads, say) when the signals come, the call is not interrupted, and no handler ever runs. The
    interpreter passes signals on to a descriptor at once, and a thread reads that. To be entered in the main
    thread; the handlers are somebody else's.

    :param on_first: called in that thread with the first one; the handler is called as well.
    """
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)

    def watch() -> None:
        is_first = True
        with ours:
            while numbers := ours.recv(64):
                for number in numbers:
                    if number not in (signal.SIGINT, signal.SIGTERM):
                        continue
                    if not is_first:
                        end_now(code_of(number))
                    is_first = False
                    on_first()

    threading.Thread(target=watch, name="agentd-signals", daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        theirs.close()


class Interrupts:
    """While entered, the first SIGINT or SIGTERM calls `on_first`, the second ends the process at once.

    `on_first` (default: raise KeyboardInterrupt) runs in a signal handler of the main thread, so it may only
    raise or wake an event loop. Does nothing when entered in another thread. `exit_code` is 130 after
    SIGINT, 143 after SIGTERM, None before.

    SIGHUP, of a terminal that was closed, is the first one too (129), but never the second: the shell and the kernel
    each send one. It is left alone where it is ignored (`nohup`) or somebody else's.
    """

    def __init__(self, on_first: Callable[[], None] | None = None) -> None:
        self.on_first = on_first
        self.exit_code: int | None = None
        self._before: dict[int, Any] = {}
        self._watch = ExitStack()

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if number != signal.SIGHUP or signal.getsignal(number) is signal.SIG_DFL:
                    self._before[number] = signal.signal(number, self._on_signal)
            self._watch.enter_context(second_signal_ends())
        return self

    def __exit__(self, *exc: object) -> None:
        self._watch.close()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        code = code_of(number)
        if self.exit_code is not None:
            if number == signal.SIGHUP:
                return
            end_now(code)
        self.exit_code = code
        if number == signal.SIGHUP:
            leave_terminal()
        if os.isatty(2):
            # os.write: a signal handler must not re-enter a buffered stream
            os.write(2, b"\nagentd: stopping; Ctrl-C again ends it now\n")
        if self.on_first is None:
            raise KeyboardInterrupt
        self.on_first()

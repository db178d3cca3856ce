"""Runs a program in a terminal of its own, for whoever reads this block's output and types into a named pipe.

Sent by `agentd_openai_agents.terminals` as text.
"""

from __future__ import annotations

import os
import pty
import select
import signal
import termios
import time

__all__ = ["run", "type_into"]

WINDOW = (24, 80)  # lines and columns
PART = 64 * 1024
WAIT_S = 5.0  # for a terminal that is about to be opened


def run(argv: list[str], name: str) -> None:
    """Run it, and exit with its exit code.

    :param name: of the pipe, in TMPDIR.
    """
    fifo = _path(name)
    os.mkfifo(fifo, 0o600)
    typed = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)  # for writing as well, so that it never ends
    try:
        pid, terminal = pty.fork()
        if pid == 0:
            _execute(argv)
        os.set_blocking(terminal, False)
        code = _relay(pid, terminal, typed)
    finally:
        os.unlink(fifo)
    os._exit(code)


def _execute(argv: list[str]) -> None:
    try:
        termios.tcsetwinsize(0, WINDOW)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.execvp(argv[0], argv)
    except OSError as error:
        os.write(2, f"{argv[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(127)


def _relay(pid: int, terminal: int, typed: int) -> int:
    ended, waiting, is_open = os.pidfd_open(pid), b"", True
    while True:
        poll = select.poll()
        poll.register(ended, select.POLLIN)
        if is_open:
            poll.register(terminal, select.POLLIN | (select.POLLOUT if waiting else 0))
        if len(waiting) < PART:  # else the program reads nothing
            poll.register(typed, select.POLLIN)
        ready = dict(poll.poll())
        events = ready.get(terminal, 0)
        if events & ~select.POLLOUT:
            is_open = _show(terminal)
        if events & select.POLLOUT and is_open:
            waiting = waiting[os.write(terminal, waiting) :]
        if typed in ready:
            waiting += os.read(typed, PART)
        if ended in ready:
            while _show(terminal, last=True):
                pass
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            return code if code >= 0 else 128 - code


def _show(terminal: int, last: bool = False) -> bool:
    """Pass on what there is; False if no more comes: nobody has it open, or, at the `last`, there is nothing."""
    try:
        shown = os.read(terminal, PART)
    except BlockingIOError:
        return not last
    except OSError:  # EIO
        return False
    rest = memoryview(shown)
    while rest:
        rest = rest[os.write(1, rest) :]
    return bool(shown)


def type_into(name: str) -> None:
    """Type this block's standard input into the terminal of that name; nothing happens if that has gone."""
    until = time.monotonic() + WAIT_S
    while True:
        try:
            typed = os.open(_path(name), os.O_WRONLY | os.O_NONBLOCK)
            break
        except OSError:  # it is not there yet, or not any more
            if time.monotonic() > until:
                return
            time.sleep(0.02)
    os.set_blocking(typed, True)
    while data := os.read(0, PART):
        try:
            while data:
                data = data[os.write(typed, data) :]
        except BrokenPipeError:
            return


def _path(name: str) -> str:
    return f"{os.environ.get('TMPDIR') or '/tmp'}/{name}"

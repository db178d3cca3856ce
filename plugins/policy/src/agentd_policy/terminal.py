"""`TerminalApprover`: asks at the terminal that the program runs in, one question after the other."""

from __future__ import annotations

import asyncio
import os
import select
import termios
from contextlib import suppress
from functools import partial
from typing import Final

from agentd._concurrency.pool import call_in_thread

from agentd_policy.questions import ApproverAnswer, Question, one_line

__all__ = ["TerminalApprover"]

TERMINAL: Final = "/dev/tty"
_KEYS: Final = {"y": "once", "s": "session", "a": "always", "n": "deny"}
_PROMPT: Final = "allow? [y]es, once  [s]ession  [a]lways here  [n]o, or a reason why not: "
_WIDER: Final = {
    "tool": "(s and a: every call of it that this rule asks about, whatever the arguments)\n",
    "create": "(s and a: this file, whatever is written to it)\n",
    "host": "",
}
_WORDS: Final = {"tool": "call the tool", "create": "write the file", "host": "connect to"}


class TerminalApprover:
    """Writes the question and reads a line. `y`, `s`, `a` and `n` (or `yes`, ...); any other text denies, and is the
    reason that the code reads. An empty line is asked about again; the end of the input denies.

    :param path: the terminal.
    """

    def __init__(self, path: str = TERMINAL) -> None:
        self._path = path
        self._turn = asyncio.Lock()

    async def ask(self, question: Question) -> object:
        """Ask, when the questions before it are over. Nothing is read for one that is over itself, nor what
        was typed before it is shown."""
        async with self._turn:
            if question.is_over:
                return None
            return await call_in_thread(partial(self._ask, question), abandon=True, unbounded=True)

    def _ask(self, question: Question) -> object:
        try:
            terminal = os.open(self._path, os.O_RDWR | os.O_NOCTTY)
        except OSError:
            return ApproverAnswer(False, reason="there is no terminal to ask at")
        ended, end = os.pipe()

        def wake() -> None:
            os.write(end, b"x")

        try:
            question.on_end(wake)
            with suppress(termios.error):
                termios.tcflush(terminal, termios.TCIFLUSH)  # what was typed before answers another question
            _write(terminal, _told(question))
            while True:
                _write(terminal, _PROMPT)
                line = _read_line(terminal, ended)
                if line is None:
                    _write(terminal, "\n(no longer asked)\n")
                    return None
                if line == "":
                    return ApproverAnswer(False, reason="the terminal's input has ended")
                if word := line.strip():
                    return _answer(word)
        finally:
            question.forget(wake)
            for number in (terminal, ended, end):
                os.close(number)


def _told(question: Question) -> str:
    source = f" of {question.source}" if question.kind == "tool" and question.source else ""
    details = question.details()
    indented = "".join(f"    {line}\n" for line in details.split("\n")) if details else ""
    wider = _WIDER[question.kind]
    return f"\n{_WORDS[question.kind]} {one_line(question.name, 400)}{source}?  ({question.why})\n{indented}{wider}"


def _answer(word: str) -> object:
    key = word.lower()
    short = {"yes": "y", "session": "s", "always": "a", "no": "n"}.get(key, key)
    return _KEYS[short] if short in _KEYS else ApproverAnswer(False, reason=word[:1000])


def _write(terminal: int, text: str) -> None:
    data = text.encode("utf-8", "replace")
    while data:
        data = data[os.write(terminal, data) :]


def _read_line(terminal: int, ended: int) -> str | None:
    """Return a line with its end, empty text at the end of the input; None if the question is over before."""
    line = b""
    while not line.endswith(b"\n"):
        readable_ones, _, _ = select.select([terminal, ended], [], [])
        if ended in readable_ones:
            return None
        try:
            more = os.read(terminal, 1024)
        except OSError:  # the terminal has gone
            more = b""
        if not more:
            break
        line += more
    return line.decode("utf-8", "replace")

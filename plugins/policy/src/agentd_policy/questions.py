"""A question to an approver, and its one answer."""

from __future__ import annotations

import difflib
import json
import logging
import os
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal, TypeAlias

import attrs
from agentd.registry.options import shown
from agentd_tools.policy import PolicyRequest

__all__ = ["ApproverAnswer", "Question", "Scope", "one_line", "read_file", "readable"]

Scope: TypeAlias = Literal["once", "session", "always"]
_SCOPES: Final = ("once", "session", "always")
DIFF_BYTES: Final = 256 * 1024
LEAST_CHARS: Final = 100
"""Of each argument, at least, as far as there is room."""
MAX_LINES: Final = 20
"""Of an argument behind its first, so that none drives the others off the screen."""
_log: Final = logging.getLogger("agentd.policy")


@attrs.frozen
class ApproverAnswer:
    """Whether it is allowed; for how long; and, if not, why: the code reads that.

    :param scope: `once`; or for all that is asked for by this name and source: for the `session`, or `always` in this
        workspace.
    :param by: who said so, for the record.
    """

    allowed: bool
    scope: Scope = "once"
    reason: str = ""
    by: str = ""

    @classmethod
    def of(cls, value: object) -> ApproverAnswer:
        """Read what an approver has returned. Raises `ValueError` for what means nothing."""
        if isinstance(value, ApproverAnswer):
            if isinstance(value.allowed, bool) and value.scope in _SCOPES:
                return value
            raise ValueError(
                "an ApproverAnswer has allowed=True or False and scope='once', 'session' or 'always', "
                f"got {value.allowed!r:.80} and {value.scope!r:.80}"
            )
        if isinstance(value, bool):
            return cls(value)
        if isinstance(value, str) and value in _SCOPES:
            return cls(True, value)  # type: ignore[arg-type]  # it is one of them
        if isinstance(value, str) and value == "deny":
            return cls(False)
        raise ValueError(
            f"must be True, False, 'once', 'session', 'always', 'deny' or an ApproverAnswer, got {shown(value)}"
        )


class Question:
    """What somebody is asked. From any thread.

    :ivar id: unique in this process; of the daemon's, in its journal.
    :ivar request: what is asked for, as it came.
    :ivar why: which rule wants it to be asked.
    :ivar asked: who is asked.
    :ivar timeout_s: seconds that the answer may take.
    :ivar rule: what the rule matches: an answer for longer than once holds for it alone.
    """

    def __init__(
        self,
        id: str,
        request: PolicyRequest,
        why: str,
        asked: str,
        workspace: Path,
        done: Callable[[Question, ApproverAnswer], None],
        *,
        timeout_s: float = float("inf"),
        rule: str = "default",
    ) -> None:
        self.id = id
        self.request = request
        self.why = why
        self.asked = asked
        self.workspace = workspace
        self.timeout_s = timeout_s
        self.rule = rule
        self._asked = time.monotonic()
        self._done = done
        self._lock = threading.Lock()
        self._over = False
        self._listeners: list[Callable[[], None]] = []

    @property
    def kind(self) -> Literal["tool", "create", "host"]:
        """What kind of thing it is about."""
        return self.request.kind

    @property
    def name(self) -> str:
        """The tool, the path, or the host and port."""
        return self.request.name

    @property
    def source(self) -> str:
        """Where a tool comes from."""
        return self.request.source

    @property
    def waited_s(self) -> float:
        """Seconds since it was asked."""
        return time.monotonic() - self._asked

    @property
    def is_over(self) -> bool:
        """True if it was answered or given up: nobody waits for an answer any more."""
        return self._over

    def arguments(self) -> object:
        """Return a tool's arguments as JSON has them; text if they are no JSON, or a file's text."""
        text = self.request.content.decode("utf-8", "replace")
        if self.kind != "tool":
            return text
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return text

    def details(self, limit: int = 4000) -> str:
        """Return what it is about, readable and safe to print: the arguments one a line, a file's difference to what
        is there; at most `limit` characters, and a word on what is left out."""
        if self.kind == "create":
            text = self._diff()
        else:
            given = self.arguments()
            if isinstance(given, dict):
                return _all_arguments(given, limit)
            text = _shown(given) if given else ""
        return readable(text, limit)

    def answer(self, value: object, *, by: str = "") -> bool:
        """Give the answer; tell whether that counts: the first answer does, if nobody has given the question up.

        :param value: what an approver may return.
        :raises ValueError: for anything else.
        """
        given = ApproverAnswer.of(value)
        answer = attrs.evolve(given, by=given.by or by or self.asked)
        if self._end():
            self._done(self, answer)
            return True
        _log.warning("the question %s about %s is over; an answer was ignored", self.id, self.name)
        return False

    def give_up(self) -> None:
        """End it without an answer: nobody waits for one."""
        self._end()

    def on_end(self, listener: Callable[[], None]) -> None:
        """Have a function called when it is over, from any thread; at once if it is."""
        with self._lock:
            if not self._over:
                self._listeners.append(listener)
                return
        listener()

    def forget(self, listener: Callable[[], None]) -> None:
        """Do not call it any more; a call that is under way is over when this returns."""
        with self._lock:
            if listener in self._listeners:
                self._listeners.remove(listener)

    def _end(self) -> bool:
        with self._lock:
            if self._over:
                return False
            self._over = True
            listeners, self._listeners = self._listeners, []
            for listener in listeners:  # they only wake somebody, who may forget them at once
                listener()
        return True

    def _diff(self) -> str:
        new = self.request.content
        old = read_file(self.workspace, self.name)
        if old is None:
            return f"(a new file, {len(new)} bytes)\n{new[:DIFF_BYTES].decode('utf-8', 'replace')}"
        if max(len(old), len(new)) > DIFF_BYTES:
            return f"({len(old)} bytes become {len(new)})"
        before, after = (data.decode("utf-8", "replace").splitlines() for data in (old, new))
        return (
            "\n".join(difflib.unified_diff(before, after, "now", "then", lineterm="", n=2)) or "(no change)"
        )


def _all_arguments(given: dict[str, object], limit: int) -> str:
    """Return each argument, and of each a part of the room: a long one hides none behind it. A line that goes on is
    indented, so that no value can look like another argument."""
    most = max(limit // LEAST_CHARS, 1)
    room = limit // min(max(len(given), 1), most)
    lines: list[str] = []
    for name, value in [*given.items()][:most]:
        first, *others = readable(_shown(value), room).split("\n")
        if len(others) > MAX_LINES:
            others[MAX_LINES:] = [f"[... {len(others) - MAX_LINES} more lines]"]
        lines += [f"{one_line(name, LEAST_CHARS)}: {first}", *(f"    {line}" for line in others)]
    return "\n".join([*lines, *([f"[... {len(given) - most} more arguments]"] if len(given) > most else [])])


def one_line(text: str, limit: int) -> str:
    """The same as `readable`, without line breaks."""
    return readable(text, limit).replace("\n", "\\n")


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def readable(text: str, limit: int) -> str:
    """Return text of hostile origin as it may be printed: no control characters, at most `limit` of the others."""
    cut = text[:limit]
    safe = "".join(c if c == "\n" or c.isprintable() else repr(c)[1:-1] for c in cut)
    return safe if len(text) <= limit else f"{safe}\n[... {len(text) - limit} more characters]"


def read_file(workspace: Path, name: str) -> bytes | None:
    """Return what is in a file of the workspace; None if there is no plain file, or it leads out."""
    try:
        path = (workspace / name).resolve()
        if not path.is_relative_to(workspace.resolve()):
            return None
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW), "rb") as file:
            return file.read(DIFF_BYTES + 1) if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else None
    except (OSError, ValueError, RuntimeError):
        return None

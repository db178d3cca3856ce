"""Questions to a person: asked, answered once, taken by the call that they are about."""

from __future__ import annotations

import sqlite3
import threading
import time
from pathlib import Path
from typing import Any, Final

import attrs
from agentd.errors import AgentdError

from agentd_daemon.journal.database import Database
from agentd_daemon.journal.ids import TriggerIds
from agentd_daemon.journal.schema import CALLS_GONE
from agentd_daemon.journal.values import JournalledQuestion

__all__ = ["LateAnswerError", "QuestionTable", "UnknownQuestionError"]

MAX_REASON_CHARS: Final = 1000
UNANSWERED: Final = "state IN ('open', 'parked', 'lost')"
NOBODY: Final = "nobody has answered in time"
FIELDS = tuple(f.name for f in attrs.fields(JournalledQuestion))
SELECT = f"SELECT {', '.join(FIELDS)} FROM questions"
INSERT = f"INSERT INTO questions ({', '.join(FIELDS)}) VALUES ({', '.join(f':{f}' for f in FIELDS)})"
BY_ID = f"{SELECT} WHERE id = ?"
ANSWER = f"""
    UPDATE questions SET state = 'answered', allowed = ?, scope = ?, reason = ?, answered_by = ?, answered_at = ?
    WHERE id = ? AND {UNANSWERED}
"""
TAKE = "UPDATE questions SET taken = 1 WHERE id = ? AND state = 'answered' AND taken = 0"
REOPEN = f"UPDATE questions SET state = 'open' WHERE id = ? AND {UNANSWERED}"
PARK = "UPDATE questions SET state = 'parked' WHERE trigger_id = ? AND state IN ('open', 'lost')"
UNPARK = "UPDATE questions SET state = 'lost' WHERE trigger_id = ? AND state = 'parked'"
END = f"UPDATE questions SET state = 'over', reason = ? WHERE id = ? AND {UNANSWERED}"
EXPIRE = f"UPDATE questions SET state = 'over', reason = '{NOBODY}' WHERE {UNANSWERED} AND until <= ?"
OF_TASK = f"{SELECT} WHERE trigger_id = ? ORDER BY id"
LIVE = f"{SELECT} WHERE {UNANSWERED} AND until > ? AND (agent = ? OR ? IS NULL) ORDER BY id"


class UnknownQuestionError(AgentdError, KeyError):
    """There is no question of this id."""

    def __init__(self, id: str, where: str) -> None:
        self.id = id
        super().__init__(f"no question {id!r} in {where}; `agentd approvals` lists those that wait")

    __str__ = AgentdError.__str__


class LateAnswerError(AgentdError):
    """A question takes no answer any more: it has one, or it has ended."""

    def __init__(self, question: JournalledQuestion) -> None:
        self.question = question
        super().__init__(f"the question {question.id} takes no answer any more: {_ending(question)}")


def _ending(question: JournalledQuestion) -> str:
    if question.state != "answered":
        return question.reason or NOBODY
    word = "allowed" if question.allowed else "denied"
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(question.answered_at))
    return f"it was {word} by {question.answered_by} at {at}"


class QuestionTable(Database):
    """The part of the journal that is about questions. Answers alone may be written by another process, too."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        super().__init__(path, connection)
        self._new_ids = threading.Lock()
        with self.read("find the newest question") as c:
            self._question_ids = TriggerIds(c.execute("SELECT max(id) FROM questions").fetchone()[0] or "")

    def new_question_id(self) -> str:
        """Return an id for a question that is to be asked. From any thread; does not wait for the file."""
        with self._new_ids:
            return self._question_ids.new()

    def ask(self, question: JournalledQuestion) -> JournalledQuestion:
        """Keep a question, or take up the one of this id, whose call is asked again: that is open again then, or has
        an answer, which the call takes. Raises `JournalError`: then nothing was kept."""
        with self.write("keep a question") as c:
            c.execute(EXPIRE, (time.time(),))
            known = self._find(c, question.id)
            if known is None:
                c.execute(INSERT, attrs.asdict(question))
            elif known.state != "answered":
                c.execute(REOPEN, (question.id,))
            elif c.execute(TAKE, (question.id,)).rowcount:
                return attrs.evolve(known, taken=True)
            else:
                return attrs.evolve(known, state="over", reason="another call has taken its answer")
            return self._found(c, question.id)

    def answer(
        self, id: str, *, allowed: bool, scope: str = "once", reason: str = "", by: str = ""
    ) -> JournalledQuestion:
        """Note the answer: the first one counts.

        :raises UnknownQuestionError: there is no such question.
        :raises LateAnswerError: it has an answer, or has ended: its task has, or its time.
        :raises JournalError: it could not be noted.
        """
        with self.write("note an answer") as c:
            now = time.time()
            values = (allowed, scope, _sound(reason)[:MAX_REASON_CHARS], _sound(by)[:200], now, id)
            c.execute(EXPIRE, (now,))
            counts = c.execute(ANSWER, values).rowcount
            found = self._found(c, id)
        if not counts:
            raise LateAnswerError(found)
        return found

    def take(self, id: str) -> JournalledQuestion | None:
        """Let a call have the answer: one call, once. None if another one has. Raises `JournalError`."""
        with self.write("take an answer") as c:
            return self._found(c, id) if c.execute(TAKE, (id,)).rowcount else None

    def lose(self, id: str) -> None:
        """Note that its call is gone. Raises `JournalError`."""
        with self.write("note that a call is gone") as c:
            c.execute(f"{CALLS_GONE} AND id = ?", (id,))

    def park(self, trigger_id: str) -> int:
        """Have a task wait for the answers to its questions; return how many there are. Raises `JournalError`."""
        with self.write("park a task") as c:
            return c.execute(PARK, (trigger_id,)).rowcount

    def unpark(self, trigger_id: str) -> None:
        """Have a task go on without waiting for answers. Raises `JournalError`."""
        with self.write("let a task go on") as c:
            c.execute(EXPIRE, (time.time(),))
            c.execute(UNPARK, (trigger_id,))

    def end_question(self, id: str, reason: str) -> None:
        """End a question without an answer. Raises `JournalError`."""
        with self.write("end a question") as c:
            c.execute(END, (reason, id))

    def question(self, id: str) -> JournalledQuestion:
        """Return a question. Raises `JournalError`, `UnknownQuestionError`."""
        with self.read("read a question") as c:
            return self._found(c, id)

    def questions(self, agent: str | None = None) -> list[JournalledQuestion]:
        """Return those without an answer, the oldest first: an agent's, or all. Raises `JournalError`."""
        with self.read("read questions") as c:
            return [_question(row) for row in c.execute(LIVE, (time.time(), agent, agent)).fetchall()]

    def questions_of(self, trigger_id: str) -> list[JournalledQuestion]:
        """Return all questions of a task, the oldest first; those whose time is over have ended. Raises
        `JournalError`."""
        now = time.time()
        with self.read("read the questions of a task") as c:
            found = [_question(row) for row in c.execute(OF_TASK, (trigger_id,)).fetchall()]
        waiting = ("open", "parked", "lost")
        return [
            attrs.evolve(q, state="over", reason=NOBODY) if q.state in waiting and q.until <= now else q
            for q in found
        ]

    def _find(self, c: sqlite3.Connection, id: str) -> JournalledQuestion | None:
        row = c.execute(BY_ID, (id,)).fetchone()
        return None if row is None else _question(row)

    def _found(self, c: sqlite3.Connection, id: str) -> JournalledQuestion:
        if (found := self._find(c, id)) is None:
            raise UnknownQuestionError(id, f"the journal {self.path}")
        return found


def _question(row: Any) -> JournalledQuestion:
    values = dict(row)
    return JournalledQuestion(
        **{**values, "allowed": bool(values["allowed"]), "taken": bool(values["taken"])}
    )


def _sound(text: str) -> str:
    return text.encode("utf-8", "replace").decode()

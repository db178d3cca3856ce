"""Events of triggers: each is taken once, in one transaction with the cursor behind it."""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections import Counter
from pathlib import Path

import attrs

from agentd_daemon.journal.database import Database
from agentd_daemon.journal.triggers import INSERT, INSERT_PAYLOAD, NOTE_SEEN, sound
from agentd_daemon.journal.values import Trigger
from agentd_daemon.triggers import EventReceipt

__all__ = ["EventTable"]

KEPT_EVENTS = 10_000
"""Ids of a trigger's events that are remembered; an older event would be taken again."""
FORGET_EVERY = 256
"""Events of a trigger between two looks at which ids are too many: each look reads all that are remembered."""
LONGEST_ID = 200
KNOWN = "SELECT trigger_id FROM events WHERE agent = ? AND uri = ? AND event = ?"
WAITING = """
    SELECT count(*) FROM triggers WHERE agent = ? AND uri = ? AND ended_at IS NULL AND origin = 'trigger'
"""
REMEMBER = "INSERT INTO events (agent, uri, event, trigger_id) VALUES (?, ?, ?, ?)"
FORGET = """
    DELETE FROM events WHERE rowid IN (
        SELECT rowid FROM events WHERE agent = ? AND uri = ? ORDER BY rowid DESC LIMIT -1 OFFSET ?)
"""


class EventTable(Database):
    """The part of the journal that is about events of triggers."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        super().__init__(path, connection)
        self._taken: Counter[tuple[str, str]] = Counter()
        """Events that this process has taken, by agent and trigger."""

    def accept_event(
        self,
        agent: str,
        *,
        uri: str,
        event: str,
        content: str,
        cursor: str | None,
        task: str = "",
        most: int = 100,
    ) -> EventReceipt | None:
        """Take an event, unless it is known; None if `most` of its trigger wait already, and it was not taken.

        With it, `cursor` is noted as what was last seen, if it is a text. Raises `JournalError`: then it was not taken.
        """
        event = sound(event)
        if len(event) > LONGEST_ID:
            event = "sha256:" + hashlib.sha256(event.encode()).hexdigest()
        with self.write(f"accept an event of agent {agent!r}") as c:
            known = c.execute(KNOWN, (agent, uri, event)).fetchone()
            if known is None and c.execute(WAITING, (agent, uri)).fetchone()[0] >= most:
                return None
            now = time.time()
            if cursor is not None:
                c.execute(NOTE_SEEN, (agent, uri, now, "", sound(cursor)))
            if known is not None:
                return EventReceipt(task=known["trigger_id"], is_new=False)
            trigger = Trigger(
                id=self._ids.new(),  # under the lock: ids rise in the order in which triggers are taken
                agent=agent,
                origin="trigger",
                uri=uri,
                accepted_at=now,
                task=sound(task),
                content=sound(content),
            )
            values = attrs.asdict(trigger, recurse=False)
            c.execute(INSERT, values)
            c.execute(INSERT_PAYLOAD, values)
            c.execute(REMEMBER, (agent, uri, event, trigger.id))
            if self._taken[agent, uri] % FORGET_EVERY == 0:  # at the first one, too: processes may be short
                c.execute(FORGET, (agent, uri, KEPT_EVENTS))
            self._taken[agent, uri] += 1
        return EventReceipt(task=trigger.id, is_new=True)

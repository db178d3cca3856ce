"""Triggers from their acceptance to their end, what was last seen of each resource, and the turns taken."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Collection
from typing import Any

import attrs
from agentd.types import Usage

from agentd_daemon.journal.database import Database, JournalError
from agentd_daemon.journal.schema import CALLS_GONE
from agentd_daemon.journal.values import Origin, Seen, SettledState, Trigger, TriggerState, TurnNote

__all__ = ["TriggerTable", "sound"]

PAYLOAD = ("id", "task", "content", "previous")
FIELDS = tuple(f.name for f in attrs.fields(Trigger))
HEAD = tuple(f for f in FIELDS if f == "id" or f not in PAYLOAD)


def _insert(table: str, columns: tuple[str, ...]) -> str:
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join(f':{c}' for c in columns)})"


INSERT = _insert("triggers", HEAD)
INSERT_PAYLOAD = _insert("payloads", PAYLOAD)
SELECT = f"SELECT {', '.join(FIELDS)} FROM triggers JOIN payloads USING (id)"
UNSTARTED = """
    SELECT id FROM triggers
    WHERE agent = ? AND uri = ? AND state = 'pending' AND attempts = 0 AND origin = 'subscription'
"""
COALESCE = "UPDATE triggers SET digest = ?, coalesced = coalesced + 1 WHERE id = ?"
COALESCE_PAYLOAD = "UPDATE payloads SET content = ?, task = ? WHERE id = ?"
WAITING = f"{SELECT} WHERE agent = ? AND ended_at IS NULL AND state <> 'running' ORDER BY id LIMIT ?"
RECENT = f"{SELECT} WHERE agent = ? ORDER BY id DESC LIMIT ?"
NEWEST = f"{SELECT} WHERE agent = ? AND uri = ? ORDER BY id DESC LIMIT 1"
BY_ID = f"{SELECT} WHERE id = ?"
BEGIN = """
    UPDATE triggers SET state = 'running', attempts = attempts + 1, started_at = ?
    WHERE id = ? AND state IN ('pending', 'interrupted')
"""
INTERRUPT = "UPDATE triggers SET state = 'interrupted' WHERE agent = ? AND state = 'running'"
END_QUESTIONS = """
    UPDATE questions SET state = 'over', reason = 'its task has ended'
    WHERE trigger_id = ? AND state IN ('open', 'parked', 'lost')
"""
RETRY = "UPDATE triggers SET state = 'pending', error = ? WHERE id = ? AND ended_at IS NULL"
SETTLE = """
    UPDATE triggers SET state = ?, result = ?, error = ?, ended_at = ? WHERE id = ? AND ended_at IS NULL
"""
NOTE_SEEN = "INSERT OR REPLACE INTO seen (agent, uri, at, digest, content) VALUES (?, ?, ?, ?, ?)"
NOTE_TURN = """
    INSERT OR REPLACE INTO turns (trigger_id, attempt, turn, at, usage)
    SELECT id, attempts, ?, ?, ? FROM triggers WHERE id = ?
"""
PRUNE_QUESTIONS = """
    DELETE FROM questions WHERE agent = ? AND trigger_id IS NULL AND state IN ('answered', 'over')
"""
PRUNE = """
    DELETE FROM triggers WHERE id IN (
        SELECT id FROM triggers WHERE agent = ? AND ended_at IS NOT NULL ORDER BY id DESC LIMIT -1 OFFSET ?)
"""


class TriggerTable(Database):
    """The part of the journal that is about triggers. What a method has done when it returns, no kill undoes."""

    # --- a trigger's life --------------------------------------------------------------------------------

    def accept(
        self,
        agent: str,
        *,
        origin: Origin,
        uri: str = "",
        content: str = "",
        digest: str = "",
        previous: str = "",
        task: str = "",
    ) -> Trigger:
        """Take a trigger; from now on it will be handled. Raises `JournalError`: then it was not taken.

        A change of a resource goes into the trigger that already waits for this agent and URI and has never begun:
        `content`, `digest` and `task` become the new ones, its id, time and `previous` stay, `coalesced` rises. With
        a change, `content` and `digest` are noted as the last seen.
        """
        with self.write(f"accept a trigger of agent {agent!r}") as c:
            trigger = Trigger(
                id=self._ids.new(),  # under the lock: ids rise in the order in which triggers are taken
                agent=agent,
                origin=origin,
                uri=uri,
                accepted_at=time.time(),
                digest=sound(digest),
                task=sound(task),
                content=sound(content),
                previous=sound(previous),
            )
            values = attrs.asdict(trigger, recurse=False)
            if origin == "subscription":
                c.execute(NOTE_SEEN, (agent, uri, trigger.accepted_at, trigger.digest, trigger.content))
                waiting = c.execute(UNSTARTED, (agent, uri)).fetchone()
                if waiting is not None:
                    return _coalesce(c, waiting["id"], trigger)
            c.execute(INSERT, values)
            c.execute(INSERT_PAYLOAD, values)
        return trigger

    def next_trigger(self, agent: str, *, but: Collection[str] = ()) -> Trigger | None:
        """Return the oldest trigger that waits, begun before or not, or None. Raises `JournalError`.

        :param but: URIs whose triggers are passed over, unless they have begun before.
        """
        few = f"AND (attempts > 0 OR uri NOT IN ({', '.join('?' * len(but))})) ORDER BY"
        query = WAITING.replace("ORDER BY", few)
        waiting = self._triggers(query, agent, *but, 1)
        return waiting[0] if waiting else None

    def begin(self, trigger_id: str) -> Trigger:
        """Note that an attempt at it begins, and return it. Raises `JournalError` if it does not wait."""
        with self.write("begin a trigger") as c:
            changed = c.execute(BEGIN, (time.time(), trigger_id)).rowcount
            return self._one(c, "begin a trigger", trigger_id, changed)

    def interrupt(self, agent: str) -> int:
        """Have the agent's running triggers wait again, for one that starts anew; return how many. Calls that
        waited for answers are gone. Raises `JournalError`."""
        with self.write(f"take up what agent {agent!r} had begun") as c:
            c.execute(f"{CALLS_GONE} AND agent = ?", (agent,))
            return c.execute(INTERRUPT, (agent,)).rowcount

    def retry_later(self, trigger_id: str, error: str) -> Trigger:
        """Have it wait again, with the error of this attempt. Raises `JournalError` if it is settled."""
        with self.write("put a trigger back") as c:
            changed = c.execute(RETRY, (sound(error), trigger_id)).rowcount
            return self._one(c, "put a trigger back", trigger_id, changed)

    def settle(self, trigger_id: str, *, state: SettledState, result: str = "", error: str = "") -> Trigger:
        """Note how it ended; it does not come back, and its questions are over. Raises `JournalError` if it is settled
        already."""
        values = (state, sound(result), sound(error), time.time(), trigger_id)
        with self.write("settle a trigger") as c:
            changed = c.execute(SETTLE, values).rowcount
            c.execute(END_QUESTIONS, (trigger_id,))
            return self._one(c, "settle a trigger", trigger_id, changed)

    def _one(self, c: sqlite3.Connection, what: str, trigger_id: str, changed: int) -> Trigger:
        row = c.execute(BY_ID, (trigger_id,)).fetchone()
        if row is None:
            raise JournalError(
                what, self.path, f"there is no trigger {trigger_id!r}", "it may have been pruned"
            )
        if not changed:
            reason = f"the trigger {trigger_id!r} is {row['state']!r}"
            raise JournalError(what, self.path, reason, "only one that waits can begin, and one settles once")
        return _trigger(row)

    # --- turns ---------------------------------------------------------------------------------------------

    def note_turn(self, trigger_id: str, turn: int, usage: Usage) -> None:
        """Note a turn of the current attempt, numbered from 1, and its tokens. Raises `JournalError`."""
        data = json.dumps(attrs.asdict(usage))
        with self.write("note a turn") as c:
            c.execute(NOTE_TURN, (turn, time.time(), data, trigger_id))

    def turns(self, trigger_id: str) -> list[TurnNote]:
        """Return the turns of all attempts at a trigger, in order. Raises `JournalError`."""
        query = "SELECT attempt, turn, at, usage FROM turns WHERE trigger_id = ? ORDER BY attempt, turn"
        with self.read("read turns") as c:
            rows = c.execute(query, (trigger_id,)).fetchall()
        return [TurnNote(**{**row, "usage": self._usage(row["usage"])}) for row in map(dict, rows)]

    def _usage(self, data: str) -> Usage:
        try:
            return Usage() + Usage(**json.loads(data))  # the sum fails for what are no numbers
        except (ValueError, TypeError) as exc:
            step = "update agentd, or use another state folder"
            raise JournalError("read turns", self.path, f"damaged usage: {exc}", step) from exc

    # --- what was last seen ----------------------------------------------------------------------------------

    def last_seen(self, agent: str, uri: str) -> Seen | None:
        """Return what the agent was last told of the resource, or None. Raises `JournalError`."""
        query = "SELECT digest, content, at FROM seen WHERE agent = ? AND uri = ?"
        with self.read("read what was last seen") as c:
            row = c.execute(query, (agent, uri)).fetchone()
        return Seen(**dict(row)) if row is not None else None

    def note_seen(self, agent: str, uri: str, digest: str, content: str) -> None:
        """Note a resource's content without waking the agent. Raises `JournalError`."""
        with self.write("note what was seen") as c:
            c.execute(NOTE_SEEN, (agent, uri, time.time(), sound(digest), sound(content)))

    # --- what can be asked -----------------------------------------------------------------------------------

    def get(self, trigger_id: str) -> Trigger | None:
        """Return a trigger, or None. Raises `JournalError`."""
        found = self._triggers(BY_ID, trigger_id)
        return found[0] if found else None

    def pending(self, agent: str) -> list[Trigger]:
        """Return the triggers that wait, begun before or not, the oldest first. Raises `JournalError`."""
        return self._triggers(WAITING, agent, -1)

    def recent(self, agent: str, limit: int = 20) -> list[Trigger]:
        """Return the newest triggers in whatever state, the newest first. Raises `JournalError`."""
        return self._triggers(RECENT, agent, max(limit, 0))

    def newest(self, agent: str, uri: str) -> Trigger | None:
        """Return the newest trigger of a resource or of events, in whatever state. Raises `JournalError`."""
        found = self._triggers(NEWEST, agent, uri)
        return found[0] if found else None

    def counts(self, agent: str) -> dict[TriggerState, int]:
        """Return how many triggers there are in each state that occurs. Raises `JournalError`."""
        query = "SELECT state, count(*) FROM triggers WHERE agent = ? GROUP BY state"
        with self.read("count triggers") as c:
            return dict(map(tuple, c.execute(query, (agent,)).fetchall()))

    def prune(self, agent: str, keep_triggers: int = 1000) -> int:
        """Delete all settled triggers but the newest `keep_triggers`, and the questions that have ended and belong to
        none; return how many triggers. Raises `JournalError`."""
        with self.write("delete old triggers") as c:
            c.execute(PRUNE_QUESTIONS, (agent,))
            return c.execute(PRUNE, (agent, max(keep_triggers, 0))).rowcount

    def _triggers(self, query: str, *values: object) -> list[Trigger]:
        with self.read("read triggers") as c:
            return [_trigger(row) for row in c.execute(query, values).fetchall()]


def _coalesce(c: sqlite3.Connection, id: str, newer: Trigger) -> Trigger:
    """`previous` stays: it is what the agent knows, which has not seen what is replaced."""
    c.execute(COALESCE, (newer.digest, id))
    c.execute(COALESCE_PAYLOAD, (newer.content, newer.task, id))
    return _trigger(c.execute(BY_ID, (id,)).fetchone())


def _trigger(row: Any) -> Trigger:
    return Trigger(**dict(row))


def sound(text: str) -> str:
    """Return the text as SQLite takes it, and every provider: with `?` for lone surrogates."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()

"""The agents' transcripts, a row for each message and execution, so that saving costs what is new."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
from agentd.errors import ConfigError
from agentd.turn.transcript import Transcript

from agentd_daemon.journal.database import Database, JournalError

__all__ = ["TranscriptTable"]

LOAD = "SELECT kind, data FROM transcript_parts WHERE agent = ? ORDER BY kind, position"
SAVE_HEAD = """
    INSERT INTO transcripts (agent, version, messages, executions, saved_at, usage) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (agent) DO UPDATE SET version = excluded.version, messages = excluded.messages,
        executions = excluded.executions, saved_at = excluded.saved_at, usage = excluded.usage
"""
CUT = "DELETE FROM transcript_parts WHERE agent = ? AND kind = ? AND position >= ?"
APPEND = "INSERT INTO transcript_parts (agent, kind, position, data) VALUES (?, ?, ?, ?)"


class TranscriptTable(Database):
    """The part of the journal that is about transcripts.

    It keeps the messages and executions that it has saved; they are the transcript's own, frozen objects.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._saved: dict[str, Transcript] = {}
        super().__init__(path, connection)

    def save_transcript(self, agent: str, transcript: Transcript) -> None:
        """Save it. Written is what follows the beginning that it shares with what was saved last; all in one
        transaction, so that a kill leaves the old one or the new one. Raises `JournalError`.
        """
        with self._lock:
            saved = self._saved_transcript(agent)
            new = attrs.evolve(
                transcript, messages=list(transcript.messages), executions=list(transcript.executions)
            )
            cuts = {
                "messages": _shared(saved.messages, new.messages),
                "executions": _shared(saved.executions, new.executions),
            }
            added = Transcript(
                new.messages[cuts["messages"] :], new.executions[cuts["executions"] :], new.usage
            )
            with self.write(f"save the transcript of agent {agent!r}") as c:
                _store(c, agent, new, added.as_dict(), cuts, saved)
            self._saved[agent] = new

    def load_transcript(self, agent: str) -> Transcript | None:
        """Return what was saved last, or None. Raises `JournalError`."""
        with self._lock:
            loaded = self._read_transcript(agent)
            if loaded is None:
                return None
            self._saved[agent] = loaded
            return attrs.evolve(loaded, messages=list(loaded.messages), executions=list(loaded.executions))

    def _saved_transcript(self, agent: str) -> Transcript:
        if agent not in self._saved:
            self._saved[agent] = self._read_transcript(agent) or Transcript()
        return self._saved[agent]

    def _read_transcript(self, agent: str) -> Transcript | None:
        what = f"load the transcript of agent {agent!r}"
        with self.read(what) as c:
            head = c.execute("SELECT version, usage FROM transcripts WHERE agent = ?", (agent,)).fetchone()
            rows = c.execute(LOAD, (agent,)).fetchall()
        if head is None:
            return None
        data: dict[str, Any] = {"version": head["version"], "messages": [], "executions": []}
        try:
            data["usage"] = json.loads(head["usage"])
            for row in rows:
                data[row["kind"]].append(json.loads(row["data"]))
            return Transcript.from_dict(data)
        except (ValueError, ConfigError) as exc:
            raise JournalError(
                what, self.path, str(exc), "update agentd, or use another state folder"
            ) from exc


def _store(
    c: sqlite3.Connection,
    agent: str,
    new: Transcript,
    added: dict[str, Any],
    cuts: dict[str, int],
    saved: Transcript,
) -> None:
    head = (
        agent,
        added["version"],
        len(new.messages),
        len(new.executions),
        time.time(),
        _json(added["usage"]),
    )
    c.execute(SAVE_HEAD, head)
    for kind, cut in cuts.items():
        if cut < len(getattr(saved, kind)):
            c.execute(CUT, (agent, kind, cut))
        c.executemany(APPEND, [(agent, kind, n, _json(part)) for n, part in enumerate(added[kind], cut)])


def _shared(old: Sequence[object], new: Sequence[object]) -> int:
    """Return how many items both begin with. The same objects, as a rule: comparing those costs nothing."""
    count = min(len(old), len(new))
    if old[:count] == new[:count]:
        return count
    return next(n for n, (a, b) in enumerate(zip(old, new, strict=False)) if a != b)


def _json(data: object) -> str:
    text = json.dumps(data, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate, which JSON can escape and SQLite cannot take
        return json.dumps(data)
    return text

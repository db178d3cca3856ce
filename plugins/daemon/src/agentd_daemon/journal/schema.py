"""The journal's tables, as the steps from each version of them to the next.

What is long and never changes is apart from what changes: SQLite writes the whole row for each change in it.
"""

from __future__ import annotations

import sqlite3

__all__ = ["CALLS_GONE", "MIGRATIONS", "TABLES", "migrate"]

TABLES = ("triggers", "payloads", "turns", "seen", "events", "transcripts", "transcript_parts", "questions")

CALLS_GONE = """
    UPDATE questions SET
        state = CASE WHEN trigger_id IS NULL THEN 'over' ELSE 'lost' END,
        reason = CASE WHEN trigger_id IS NULL THEN 'its call is gone' ELSE reason END
    WHERE state = 'open'
"""
"""What becomes of questions whose calls are gone: those of a task may be asked again."""

# Older ones (RHEL 9 has 3.34) do without the check of types.
STRICT = "STRICT" if sqlite3.sqlite_version_info >= (3, 37) else ""

FIRST = (
    f"""
    CREATE TABLE triggers (
        id          TEXT PRIMARY KEY,
        agent       TEXT NOT NULL,
        origin      TEXT NOT NULL CHECK (origin IN ('subscription', 'repl', 'once')),
        uri         TEXT NOT NULL,
        state       TEXT NOT NULL
                    CHECK (state IN ('pending', 'running', 'interrupted', 'done', 'failed', 'skipped')),
        attempts    INTEGER NOT NULL,
        coalesced   INTEGER NOT NULL,
        accepted_at REAL NOT NULL,
        started_at  REAL,
        ended_at    REAL,
        digest      TEXT NOT NULL,
        error       TEXT NOT NULL,
        result      TEXT NOT NULL,
        CHECK ((ended_at IS NULL) = (state IN ('pending', 'running', 'interrupted')))
    ) {STRICT}
    """,
    "CREATE INDEX triggers_of_agent ON triggers (agent, id)",
    "CREATE INDEX unsettled ON triggers (agent, id) WHERE ended_at IS NULL",
    # At most one: the next change of the resource goes into it.
    """
    CREATE UNIQUE INDEX unstarted ON triggers (agent, uri)
        WHERE state = 'pending' AND attempts = 0 AND origin = 'subscription'
    """,
    f"""
    CREATE TABLE payloads (
        id       TEXT PRIMARY KEY REFERENCES triggers (id) ON DELETE CASCADE,
        task     TEXT NOT NULL,
        content  TEXT NOT NULL,
        previous TEXT NOT NULL
    ) {STRICT}
    """,
    f"""
    CREATE TABLE turns (
        trigger_id TEXT NOT NULL REFERENCES triggers (id) ON DELETE CASCADE,
        attempt    INTEGER NOT NULL,
        turn       INTEGER NOT NULL,
        at         REAL NOT NULL,
        usage      TEXT NOT NULL,
        PRIMARY KEY (trigger_id, attempt, turn)
    ) {STRICT}
    """,
    f"""
    CREATE TABLE seen (
        agent   TEXT NOT NULL,
        uri     TEXT NOT NULL,
        at      REAL NOT NULL,
        digest  TEXT NOT NULL,
        content TEXT NOT NULL,
        PRIMARY KEY (agent, uri)
    ) {STRICT}
    """,
    # The counts tell a whole transcript from one of which a damaged file gave only some parts.
    f"""
    CREATE TABLE transcripts (
        agent      TEXT PRIMARY KEY,
        version    INTEGER NOT NULL,
        messages   INTEGER NOT NULL,
        executions INTEGER NOT NULL,
        saved_at   REAL NOT NULL,
        usage      TEXT NOT NULL
    ) {STRICT}
    """,
    f"""
    CREATE TABLE transcript_parts (
        agent    TEXT NOT NULL REFERENCES transcripts (agent) ON DELETE CASCADE,
        kind     TEXT NOT NULL CHECK (kind IN ('messages', 'executions')),
        position INTEGER NOT NULL,
        data     TEXT NOT NULL,
        PRIMARY KEY (agent, kind, position)
    ) {STRICT}
    """,
)

QUESTIONS = (
    f"""
    CREATE TABLE questions (
        id          TEXT PRIMARY KEY,
        agent       TEXT NOT NULL,
        trigger_id  TEXT REFERENCES triggers (id) ON DELETE CASCADE,
        state       TEXT NOT NULL CHECK (state IN ('open', 'parked', 'lost', 'answered', 'over')),
        kind        TEXT NOT NULL,
        name        TEXT NOT NULL,
        source      TEXT NOT NULL,
        digest      TEXT NOT NULL,
        arguments   TEXT NOT NULL,
        why         TEXT NOT NULL,
        workspace   TEXT NOT NULL,
        asked_at    REAL NOT NULL,
        until       REAL NOT NULL,
        allowed     INTEGER NOT NULL,
        scope       TEXT NOT NULL,
        reason      TEXT NOT NULL,
        answered_by TEXT NOT NULL,
        answered_at REAL,
        taken       INTEGER NOT NULL,
        rule        TEXT NOT NULL
    ) {STRICT}
    """,
    "CREATE INDEX questions_of_agent ON questions (agent, id)",
    "CREATE INDEX questions_of_trigger ON questions (trigger_id)",
    "CREATE INDEX unanswered ON questions (agent, id) WHERE state IN ('open', 'parked', 'lost')",
)

# SQLite changes no CHECK: the table is made anew. Foreign keys are off meanwhile, or its children would go with it.
EVENTS = (
    FIRST[0].replace("TABLE triggers", "TABLE triggers_of_all").replace("'once')", "'once', 'trigger')"),
    "INSERT INTO triggers_of_all SELECT * FROM triggers",
    "DROP TABLE triggers",
    "ALTER TABLE triggers_of_all RENAME TO triggers",
    *FIRST[1:4],
    f"""
    CREATE TABLE events (
        agent      TEXT NOT NULL,
        uri        TEXT NOT NULL,
        event      TEXT NOT NULL,
        trigger_id TEXT NOT NULL,
        PRIMARY KEY (agent, uri, event)
    ) {STRICT}
    """,
)

MIGRATIONS: list[tuple[str, ...]] = [FIRST, QUESTIONS, EVENTS]
"""`MIGRATIONS[n]` leads from version n to n + 1; a released step is never changed, only followed by another."""


def migrate(connection: sqlite3.Connection, version: int) -> None:
    """Bring the tables from `version` up to date, each step whole or not at all. Raises `sqlite3.Error`."""
    for number, step in enumerate(MIGRATIONS[version:], version + 1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in step:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

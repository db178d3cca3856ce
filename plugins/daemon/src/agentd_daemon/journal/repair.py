"""A damaged journal: set aside under another name, and what can still be read taken over into a new one."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from agentd_daemon.journal.schema import TABLES

__all__ = ["fresh_name", "is_damage", "salvage", "set_aside"]

DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def is_damage(exc: sqlite3.Error) -> bool:
    """Say whether SQLite complains about the file's content."""
    if "malformed database schema" in str(exc) and sqlite3.sqlite_version_info < (3, 37):
        return False  # written by a newer SQLite, with STRICT tables that this one cannot read
    return getattr(exc, "sqlite_errorcode", 0) & 0xFF in DAMAGE


def fresh_name(path: Path) -> Path:
    """Return where the journal is made that will take the damaged one's place; nothing is there."""
    fresh = path.with_name(path.name + ".new")
    for suffix in ("", "-wal", "-shm"):  # of a repair that was killed
        path.with_name(fresh.name + suffix).unlink(missing_ok=True)
    return fresh


def set_aside(path: Path, fresh: Path) -> Path:
    """Put `fresh` in the damaged file's place, and return where that is now. Nothing may have either open.

    There is always one of them in the place: whoever is killed here finds the damaged one, to begin again, or the
    repaired one. Raises `OSError`.
    """
    aside = _free_name(path)
    aside.hardlink_to(path)
    log = path.with_name(path.name + "-wal")
    if log.exists():  # it would be taken for the new file's
        log.rename(aside.with_name(aside.name + "-wal"))
    path.with_name(path.name + "-shm").unlink(missing_ok=True)
    fresh.replace(path)
    return aside


def _free_name(path: Path) -> Path:
    name = f"{path.name}.damaged-{time.strftime('%Y%m%dT%H%M%S')}"
    candidates = [name, *(f"{name}-{n}" for n in range(2, 1000))]
    return next(p for p in map(path.with_name, candidates) if not p.exists())


def salvage(damaged: Path, into: sqlite3.Connection) -> int:
    """Copy the rows that can still be read, and return how many they are. Raises `sqlite3.Error` for `into` only.

    A transcript of which a part is missing is left out: a call could have lost its result.
    """
    copied = 0
    source = sqlite3.connect(damaged, isolation_level=None)
    try:
        source.execute("PRAGMA writable_schema = ON")  # lets SQLite read a file that was cut off
        into.execute("BEGIN IMMEDIATE")
        for table in TABLES:
            copied += _copy(source, into, table)
        into.execute(
            """
            DELETE FROM transcripts WHERE messages + executions <>
                (SELECT count(*) FROM transcript_parts AS p WHERE p.agent = transcripts.agent)
            """
        )
        into.execute("DELETE FROM triggers WHERE id NOT IN (SELECT id FROM payloads)")
        into.execute("COMMIT")
    finally:
        source.close()
        if into.in_transaction:
            into.execute("ROLLBACK")
    return copied


def _copy(source: sqlite3.Connection, into: sqlite3.Connection, table: str) -> int:
    columns = [row[1] for row in into.execute(f"PRAGMA table_info({table})")]
    insert = f"INSERT OR IGNORE INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
    copied = 0
    for row in _readable_rows(source, table, columns):
        try:
            copied += into.execute(insert, row).rowcount
        except sqlite3.IntegrityError:
            pass  # garbage, or a part of something that is lost
    return copied


def _readable_rows(
    source: sqlite3.Connection, table: str, columns: list[str]
) -> Iterator[tuple[object, ...]]:
    """Read from both ends up to the damage, so some rows come twice."""
    for order in ("ASC", "DESC"):
        try:
            yield from source.execute(
                f"SELECT {', '.join(columns)} FROM {table} NOT INDEXED ORDER BY rowid {order}"
            )
        except sqlite3.DatabaseError:
            pass  # that is what salvaging is for

"""The journal's file: opening it, transactions from any thread, and errors that say what to do."""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
import stat
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from agentd.errors import AgentdError
from agentd.statedir import make_private

from agentd_daemon.journal.ids import TriggerIds
from agentd_daemon.journal.repair import fresh_name, is_damage, salvage, set_aside
from agentd_daemon.journal.schema import CALLS_GONE, MIGRATIONS, migrate

__all__ = ["Database", "JournalError"]

log = logging.getLogger("agentd.daemon.journal")

BUSY_TIMEOUT_S = 5.0
PAGE_BYTES = 4096
LOG_PAGES = 4096  # 16 MiB; `checkpoint` keeps the log far below it


class JournalError(AgentdError, OSError):
    """The daemon's journal could not be opened, read or written; what was being written is not in it.

    `errno` is `ENOSPC` if there was no room for it, otherwise None: whoever wrote may try again later.
    """

    def __init__(self, what: str, path: object, reason: str, step: str, *, errno: int | None = None) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"could not {what} in the journal {path}: {reason}; {step}")
        self.errno = errno


class Database:
    """One connection to the file, for all threads. It has one owner that writes; others may read it meanwhile.

    A process that is killed loses nothing of what was committed. With `synchronous = NORMAL`, a machine that
    loses its power may lose the last moments, and the file stays whole.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self.damaged: Path | None = None
        """Where a damaged file was set aside when this one was opened, or None."""
        self._lock = threading.RLock()
        self._connection = connection
        self._is_closed = False
        connection.row_factory = sqlite3.Row
        with self.read("find the newest trigger") as c:
            self._ids = TriggerIds(c.execute("SELECT max(id) FROM triggers").fetchone()[0] or "")

    # --- opening and closing ---------------------------------------------------------------------------

    @classmethod
    def open(
        cls, path: str | Path, *, readonly: bool = False, guest: bool = False, max_mib: int | None = None
    ) -> Self:
        """Open the file, or make it, with its folder, for nobody but its owner to read.

        The owner holds a lock of its own on the folder: triggers that have begun are taken for interrupted.
        A damaged file is set aside beside the new one (`damaged` names it), and what can be read of it is taken over.

        :param readonly: change nothing, and need no ownership.
        :param guest: need no ownership either, but answer questions, beside the owner if there is one.
        :param max_mib: how large the file may become, in MiB; beyond it, the journal is full.
        :raises JournalError: it is of a newer version, not accessible, or, without ownership, not there, damaged or of
            an older version.
        """
        path = Path(path)
        with _translated("open the file", path):
            if readonly or guest:
                connection, aside = _connect_guest(path, "rw" if guest else "ro"), None
            else:
                _make_private(path)
                connection, aside = _connect_whole(path)
            try:
                if not (readonly or guest):
                    if max_mib is not None:
                        connection.execute(f"PRAGMA max_page_count = {max_mib * 1024 * 1024 // PAGE_BYTES}")
                    connection.execute("UPDATE triggers SET state = 'interrupted' WHERE state = 'running'")
                    connection.execute(CALLS_GONE)
                database = cls(path, connection)
            except BaseException:
                connection.close()
                raise
            database.damaged = aside
            return database

    def close(self) -> None:
        """Close the file. Closing it twice is the same as once."""
        with self._lock:
            self._is_closed = True
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # --- using it ----------------------------------------------------------------------------------------

    @contextmanager
    def read(self, what: str) -> Iterator[sqlite3.Connection]:
        """Hold the connection. `what` says in an error what could not be done. Raises `JournalError`."""
        with self._lock, _translated(what, self.path):
            self._check_open(what)
            yield self._connection

    @contextmanager
    def write(self, what: str) -> Iterator[sqlite3.Connection]:
        """Hold the connection in a transaction: all of it is kept, or nothing. Raises `JournalError`."""
        with self.read(what) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # a full disk may have ended it already
                    connection.execute("ROLLBACK")
                raise

    def checkpoint(self) -> None:
        """Bring the log's content into the file, which waits for the disk: for a thread, at a quiet moment.

        Writers go on meanwhile. Without it, the one who writes the 4,096th page of the log does it. Raises
        `JournalError`.
        """
        with _translated("bring the log into the file", self.path):
            self._check_open("bring the log into the file")
            with closing(_connect(self.path)) as connection:
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

    def _check_open(self, what: str) -> None:
        if self._is_closed:
            raise JournalError(what, self.path, "it was closed", "open it again")


# --- the connection ------------------------------------------------------------------------------------------


class _Damaged(Exception):
    """The file is damaged; the text says how."""


def _connect(path: Path, mode: str = "rw") -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,  # transactions are begun and ended here
        check_same_thread=False,  # the lock takes care of that
    )


def _connect_guest(path: Path, mode: str) -> sqlite3.Connection:
    if not path.exists():
        raise JournalError("open the file", path, "there is no such file", "start the daemon, it makes one")
    connection = _connect(path, mode)
    try:
        version = _version(connection, path)
        if version < len(MIGRATIONS):
            reason = f"it has version {version}, this agentd reads {len(MIGRATIONS)}"
            raise JournalError(
                "open the file", path, reason, "start the daemon, it brings the file up to date"
            )
    except BaseException:
        connection.close()
        raise
    return connection


def _connect_whole(path: Path) -> tuple[sqlite3.Connection, Path | None]:
    """Return a connection to a sound and up-to-date file, and where a damaged one went."""
    try:
        return _connect_owner(path), None
    except _Damaged as exc:
        reason = str(exc)
    fresh = fresh_name(path)
    _make_private(fresh)
    with closing(_connect_owner(fresh)) as connection:
        rows = salvage(path, connection)
    aside = set_aside(path, fresh)
    log.error(
        "the journal %s was damaged (%s): it was moved to %s, and a new one was made, with the %d records that could "
        "still be read; check the disk, and keep the old file if something is missing",
        *(path, reason, aside.name, rows),
    )
    return _connect_owner(path), aside


def _connect_owner(path: Path) -> sqlite3.Connection:
    connection = _connect(path)
    try:
        version = _version(connection, path)
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise _Damaged(found)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")
        migrate(connection, version)
        connection.execute("PRAGMA foreign_keys = ON")
    except sqlite3.Error as exc:
        connection.close()
        if is_damage(exc):
            raise _Damaged(str(exc)) from exc
        raise
    except BaseException:
        connection.close()
        raise
    return connection


def _version(connection: sqlite3.Connection, path: Path) -> int:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    assert isinstance(version, int)
    if not 0 <= version <= len(MIGRATIONS):
        reason = f"it has version {version}, this agentd knows versions up to {len(MIGRATIONS)}"
        raise JournalError("open the file", path, reason, "update agentd, or use another state folder")
    return version


def _make_private(path: Path) -> None:
    """Make the folder and the file if they are not there; SQLite gives its log the same mode as the file."""
    make_private(path.parent)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if stat.S_IMODE(os.fstat(descriptor).st_mode) != 0o600:
            os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)


# --- errors --------------------------------------------------------------------------------------------------

STEPS = {
    sqlite3.SQLITE_FULL: "nothing of it was kept: make room on the disk (or raise the journal's limit), then try again",
    sqlite3.SQLITE_BUSY: "another process holds it: end the program that does, then try again",
    sqlite3.SQLITE_READONLY: "make the file and its folder writable for this user",
    sqlite3.SQLITE_CANTOPEN: "make the file and its folder accessible for this user",
    sqlite3.SQLITE_CORRUPT: "start the daemon again: it sets the file aside and keeps what can be read",
    sqlite3.SQLITE_NOTADB: "start the daemon again: it sets the file aside and makes a new one",
}
OTHER_STEP = "nothing of it was kept: check the disk and the folder's permissions, then try again"


@contextmanager
def _translated(what: str, path: Path) -> Iterator[None]:
    try:
        yield
    except JournalError:
        raise
    except sqlite3.Error as exc:
        code = getattr(exc, "sqlite_errorcode", 0) & 0xFF
        full = errno.ENOSPC if code == sqlite3.SQLITE_FULL else None
        raise JournalError(what, path, str(exc), STEPS.get(code, OTHER_STEP), errno=full) from exc
    except OSError as exc:
        full = errno.ENOSPC if exc.errno == errno.ENOSPC else None
        raise JournalError(what, path, exc.strerror or str(exc), OTHER_STEP, errno=full) from exc

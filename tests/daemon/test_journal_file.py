"""The journal's file: who may read it, versions, readers beside the owner, a full disk, damage."""

from __future__ import annotations

import errno
import logging
import os
import re
import sqlite3
import stat
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
from agentd.errors import AgentdError
from agentd.turn.transcript import Transcript
from agentd_daemon.journal import Journal, JournalError, Trigger, schema


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def filled(path: Path, triggers: int = 300) -> list[str]:
    """Make a journal with some of everything, close it, and return the triggers' ids."""
    with Journal.open(path) as journal:
        ids = [journal.accept("a", origin="repl", task=f"{n} {'x' * 500}").id for n in range(triggers)]
        for agent in ("whole", "torn"):
            transcript = Transcript()
            for n in range(20):
                transcript.add("task", f"{n} {'y' * 300}")
            journal.save_transcript(agent, transcript)
        journal.note_seen("a", "file:///x", "digest", "content")
    return ids


# --- the file ------------------------------------------------------------------------------------------


def test_nobody_else_can_read_the_folder_and_the_files(tmp_path: Path) -> None:
    old_mask = os.umask(0)
    try:
        with Journal.open(tmp_path / "state" / "journal.db") as journal:
            journal.accept("a", origin="repl", task="secret")
            assert mode(tmp_path / "state") == 0o700
            files = {p.name: mode(p) for p in (tmp_path / "state").iterdir()}
    finally:
        os.umask(old_mask)
    assert files == {"journal.db": 0o600, "journal.db-wal": 0o600, "journal.db-shm": 0o600}


def test_a_file_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    filled(path, 1)
    path.chmod(0o644)
    Journal.open(path).close()
    assert mode(path) == 0o600


def test_it_is_a_write_ahead_log_with_typed_tables_and_foreign_keys(journal: Journal) -> None:
    journal.accept("a", origin="repl")
    with journal.read("look") as c:
        assert c.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        assert c.execute("PRAGMA foreign_keys").fetchone()[0] == 1
        assert c.execute("PRAGMA user_version").fetchone()[0] == len(schema.MIGRATIONS)
        assert c.execute("PRAGMA foreign_key_check").fetchall() == []
    with pytest.raises(JournalError, match="attempts"), journal.write("spoil it") as c:
        c.execute("UPDATE triggers SET attempts = 'many'")


def test_a_closed_journal_says_so(journal: Journal) -> None:
    journal.close()
    journal.close()
    with pytest.raises(JournalError, match=r"could not read triggers .*: it was closed; open it again"):
        journal.pending("a")
    with pytest.raises(JournalError, match="it was closed"):
        journal.checkpoint()


def test_a_folder_in_the_place_of_the_file_is_an_error_with_the_path(tmp_path: Path) -> None:
    (tmp_path / "journal.db").mkdir()
    with pytest.raises(JournalError, match=rf"could not open the file in the journal .*{tmp_path.name}"):
        Journal.open(tmp_path / "journal.db")


def test_a_path_with_characters_of_addresses_is_a_path(tmp_path: Path) -> None:
    path = tmp_path / "what?mode=ro#50%41 ü" / "journal.db"
    with Journal.open(path) as journal:
        journal.accept("a", origin="repl")
    assert path.exists()


def test_a_checkpoint_brings_the_log_into_the_file_while_the_journal_is_used(journal: Journal) -> None:
    task = "checkpoint me"
    journal.accept("a", origin="repl", task=task)
    assert task.encode() not in journal.path.read_bytes()
    thread = threading.Thread(target=journal.checkpoint)
    thread.start()
    journal.accept("a", origin="repl", task="meanwhile")
    thread.join()
    assert task.encode() in journal.path.read_bytes()
    assert len(journal.pending("a")) == 2


# --- versions ------------------------------------------------------------------------------------------


def test_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    filled(path, 1)
    with closing(sqlite3.connect(path)) as c, c:
        c.execute("PRAGMA user_version = 99")
    c.close()
    known = len(schema.MIGRATIONS)
    before = path.read_bytes()
    for readonly in (False, True):
        with pytest.raises(
            JournalError, match=rf"has version 99, .* up to {known}; update agentd, or use another"
        ):
            Journal.open(path, readonly=readonly)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir() if "damaged" in p.name] == []


def test_an_older_version_is_migrated_and_keeps_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal.db"
    ids = filled(path, 3)
    known = len(schema.MIGRATIONS)
    monkeypatch.setattr(
        schema,
        "MIGRATIONS",
        [*schema.MIGRATIONS, ("CREATE TABLE more (x TEXT)", "INSERT INTO more VALUES ('y')")],
    )
    monkeypatch.setattr("agentd_daemon.journal.database.MIGRATIONS", schema.MIGRATIONS)
    with pytest.raises(
        JournalError, match=f"has version {known}, this agentd reads {known + 1}; start the daemon"
    ):
        Journal.open(path, readonly=True)
    with Journal.open(path) as journal:
        assert [t.id for t in journal.pending("a")] == ids
        with journal.read("look") as c:
            assert c.execute("SELECT x FROM more").fetchone()[0] == "y"
    Journal.open(path, readonly=True).close()


def test_a_migration_that_fails_leaves_the_old_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal.db"
    ids = filled(path, 3)
    broken = [*schema.MIGRATIONS, ("CREATE TABLE more (x TEXT)", "INSERT INTO nowhere VALUES (1)")]
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", broken)
        patch.setattr("agentd_daemon.journal.database.MIGRATIONS", broken)
        with pytest.raises(JournalError, match="nowhere"):
            Journal.open(path)
    with Journal.open(path) as journal:
        assert [t.id for t in journal.pending("a")] == ids


# --- readers ---------------------------------------------------------------------------------------------


def test_a_reader_sees_what_the_owner_does_and_changes_nothing(journal: Journal) -> None:
    begun = journal.begin(journal.accept("a", origin="repl").id)
    with Journal.open(journal.path, readonly=True) as reader:
        assert reader.counts("a") == {"running": 1}  # not taken for interrupted
        journal.settle(begun.id, state="done")
        assert reader.counts("a") == {"done": 1}
        with pytest.raises(JournalError, match="readonly"):
            reader.accept("a", origin="repl")
    journal.accept("a", origin="repl")


def test_a_reader_that_holds_a_transaction_does_not_hold_up_the_owner(journal: Journal) -> None:
    with Journal.open(journal.path, readonly=True) as reader, reader.read("look") as c:
        c.execute("BEGIN")
        c.execute("SELECT count(*) FROM triggers").fetchone()
        for n in range(50):
            journal.settle(
                journal.begin(journal.accept("a", origin="repl").id).id, state="done", result=str(n)
            )
        journal.checkpoint()
        assert c.execute("SELECT count(*) FROM triggers").fetchone()[0] == 0
        c.execute("COMMIT")
        assert c.execute("SELECT count(*) FROM triggers").fetchone()[0] == 50


def test_a_reader_reads_a_journal_that_nobody_has_open(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    ids = filled(path, 2)
    with Journal.open(path, readonly=True) as reader:
        assert [t.id for t in reader.pending("a")] == ids


def test_a_reader_makes_no_file(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="there is no such file; start the daemon"):
        Journal.open(tmp_path / "journal.db", readonly=True)
    assert list(tmp_path.iterdir()) == []


# --- a full disk -------------------------------------------------------------------------------------------


def test_a_full_journal_is_a_clear_error_and_what_is_in_it_stays(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "journal.db", max_mib=1) as journal:
        taken: list[Trigger] = []

        def take_them() -> None:
            while len(taken) < 1000:
                uri = f"u{len(taken)}"
                taken.append(journal.accept("a", origin="subscription", uri=uri, content="x" * 20_000))

        with pytest.raises(JournalError, match="disk is full; nothing of it was kept: make room") as caught:
            take_them()
        assert caught.value.errno == errno.ENOSPC
        assert isinstance(caught.value, AgentdError)
        assert 5 < len(taken) < 100
        assert journal.pending("a") == taken  # the last one is there neither in part nor whole
        assert journal.last_seen("a", f"u{len(taken)}") is None
        journal.settle(journal.begin(taken[0].id).id, state="done")
        assert journal.prune("a", 0) == 1  # which makes room
        journal.accept("a", origin="repl", task="x" * 15_000)


FILE_LIMIT = """
import resource, signal, sys
from agentd_daemon.journal import Journal, JournalError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
journal = Journal.open(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
try:
    while True:
        print(journal.accept("a", origin="repl", task="x" * 5000).id, flush=True)
except JournalError as exc:
    print("error", exc, flush=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(journal.accept("a", origin="repl", task="x" * 5000).id, flush=True)
"""


def test_a_write_that_the_system_refuses_loses_nothing_and_the_journal_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    done = subprocess.run(
        [sys.executable, "-c", FILE_LIMIT, str(path)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert re.match(
        r"error could not accept a trigger of agent 'a' in the journal .*; nothing of it", lines[-2]
    )
    taken = [line for line in lines if not line.startswith("error")]
    assert len(taken) > 5
    with Journal.open(path) as journal:
        assert [t.id for t in journal.pending("a")] == taken
        assert journal.damaged is None


# --- damage --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content", [b"this is no database " * 100, b"\0" * 8192, b"SQLite format 3\0" + b"\xff" * 4080]
)
def test_garbage_is_set_aside_and_a_new_journal_made(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "journal.db"
    path.write_bytes(content)
    with pytest.raises(JournalError, match=r"start the daemon again: it sets the file aside"):
        Journal.open(path, readonly=True)
    assert path.read_bytes() == content
    with caplog.at_level(logging.ERROR), Journal.open(path) as journal:
        taken = journal.accept("a", origin="repl")
        assert journal.pending("a") == [taken]
        assert journal.damaged is not None
        assert re.fullmatch(r"journal\.db\.damaged-\d{8}T\d{6}", journal.damaged.name)
        assert journal.damaged.read_bytes() == content
        assert str(path) in caplog.text
        assert journal.damaged.name in caplog.text
        assert mode(path) == 0o600


def test_two_damaged_journals_in_one_second_are_both_kept(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    kept = set()
    for n in range(3):
        path.write_bytes(b"garbage %d " % n * 100)
        with Journal.open(path) as journal:
            assert journal.damaged is not None
            kept.add(journal.damaged.read_bytes()[:9])
    assert len(kept) == 3
    assert len([p for p in tmp_path.iterdir() if "damaged" in p.name]) == 3


def overwrite_page(path: Path, wanted: bytes) -> None:
    """Spoil the page on which these bytes are."""
    data = bytearray(path.read_bytes())
    start = data.index(wanted) // 4096 * 4096
    data[start : start + 4096] = b"\xa5" * 4096
    path.write_bytes(data)


def test_what_can_be_read_of_a_damaged_journal_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    ids = filled(path)
    with Journal.open(path) as journal:
        journal.begin(ids[0])
        journal.settle(ids[0], state="done")
        journal.begin(ids[1])
    overwrite_page(path, b"150 xxxxxx")
    with Journal.open(path) as journal:
        assert journal.damaged is not None
        left = {t.id: t for t in journal.recent("a", 1000)}
        assert set(left) < set(ids)
        assert len(left) > 250
        assert left[ids[0]].state == "done"
        assert left[ids[1]].state == "interrupted"
        assert left[ids[-1]].task.startswith("299 ")
        assert getattr(journal.last_seen("a", "file:///x"), "content", None) == "content"
        assert journal.accept("a", origin="repl").id > ids[-1]
        with journal.read("look") as c:
            assert c.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
            assert c.execute("PRAGMA foreign_key_check").fetchall() == []
    with Journal.open(path) as journal:
        assert journal.damaged is None


def test_a_transcript_with_a_hole_is_left_out_and_a_whole_one_kept(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    filled(path, 1)
    with Journal.open(path) as journal, journal.write("mark it") as c:
        long = "TORN" + "z" * 5000
        c.execute("UPDATE transcript_parts SET data = ? WHERE agent = 'torn' AND position = 10", (long,))
    overwrite_page(path, b"TORN")
    with Journal.open(path) as journal:
        assert journal.damaged is not None
        assert journal.load_transcript("torn") is None
        with journal.read("look") as c:
            assert c.execute("SELECT count(*) FROM transcript_parts WHERE agent = 'torn'").fetchone()[0] == 0


def test_a_truncated_journal_is_found_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    filled(path)
    os.truncate(path, path.stat().st_size // 2)
    with Journal.open(path) as journal:
        assert journal.damaged is not None
        assert journal.pending("a")


def test_a_repair_that_is_killed_before_its_last_step_begins_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal.db"
    ids = filled(path)
    overwrite_page(path, b"150 xxxxxx")

    def killed(*paths: Path) -> Path:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("agentd_daemon.journal.database.set_aside", killed)
        with pytest.raises(KeyboardInterrupt):
            Journal.open(path)
    with Journal.open(path) as journal:
        assert journal.damaged is not None
        assert ids[0] in {t.id for t in journal.pending("a")}
        assert ids[-1] in {t.id for t in journal.pending("a")}
    assert {p.name for p in tmp_path.iterdir()} == {"journal.db", journal.damaged.name}
    assert mode(path) == mode(journal.damaged) == 0o600


def test_what_the_log_of_a_damaged_journal_holds_is_taken_over_too(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    filled(path)
    log = "from agentd_daemon.journal import Journal, JournalError; import os, sys; j = Journal.open(sys.argv[1]);"
    code = (
        log + "print(j.accept('a', origin='repl', task='in the log').id, flush=True); os.kill(os.getpid(), 9)"
    )
    command = [sys.executable, "-c", code, str(path)]
    killed = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert path.with_name("journal.db-wal").stat().st_size > 0
    overwrite_page(path, b"150 xxxxxx")
    with Journal.open(path) as journal:
        assert journal.damaged is not None
        assert killed.stdout.strip() in {t.id for t in journal.pending("a")}

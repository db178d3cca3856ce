"""A restore through an executor: whatever runs ends before files change, and the next result says so."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from agentd.errors import RunnerDiedError
from agentd.types import BashAction, PythonAction
from agentd_executor_subprocess.executor import SubprocessExecutor

ENDED = "what ran was ended before files of the workspace were replaced"
OPEN = """
import sqlite3
db = sqlite3.connect("data.db", isolation_level=None)
db.execute("PRAGMA journal_mode = WAL")
db.execute("CREATE TABLE IF NOT EXISTS t (n)")
db.execute("INSERT INTO t VALUES (1)")
"""
COUNT = "import sqlite3; print(sqlite3.connect('data.db').execute('SELECT count(*) FROM t').fetchone()[0])"


@pytest.fixture
def executor(tmp_path: Path) -> Iterator[SubprocessExecutor]:
    with SubprocessExecutor(tmp_path / "workspace", base_dir=tmp_path / "base", state="kept") as made:
        yield made


def test_a_database_that_a_kept_interpreter_has_open_is_whole_after_a_restore(
    executor: SubprocessExecutor,
) -> None:
    executor.run_sync(PythonAction(code=OPEN))
    executor.snapshot("one row")
    executor.run_sync(PythonAction(code="db.execute('INSERT INTO t VALUES (2)')"))
    executor.restore("one row")
    result = executor.run_sync(PythonAction(code=COUNT + "\nprint('db' in globals())"))
    assert result.stdout == b"1\nFalse\n"
    assert ENDED in result.message
    executor.run_sync(PythonAction(code=OPEN))
    with closing(sqlite3.connect(executor.workspace_dir / "data.db")) as db, db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert db.execute("SELECT count(*) FROM t").fetchone() == (2,)


def test_a_block_that_runs_is_ended_before_files_change(executor: SubprocessExecutor) -> None:
    executor.snapshot("empty")
    failures: list[RunnerDiedError] = []
    writing = threading.Event()

    def write() -> None:
        command = "while :; do echo x >> growing; echo; sleep 0.001; done"
        try:
            executor.run_sync(BashAction(command=command), on_output=lambda chunk: writing.set())
        except RunnerDiedError as exc:
            failures.append(exc)

    thread = threading.Thread(target=write)
    thread.start()
    assert writing.wait(30)
    executor.restore("empty")
    thread.join(30)
    assert ENDED in str(failures[0])
    assert list(executor.workspace_dir.iterdir()) == []
    assert ENDED in executor.run_sync(BashAction(command="ls")).message


def test_a_shell_where_nothing_runs_stays_as_it_is(tmp_path: Path) -> None:
    with SubprocessExecutor(tmp_path / "workspace", base_dir=tmp_path / "base") as executor:
        executor.run_sync(BashAction(command="mkdir deep; cd deep; export CITY=Rome"))
        executor.snapshot("deep")
        executor.restore("deep")
        result = executor.run_sync(BashAction(command="echo $CITY; pwd"))
        assert result.stdout.decode() == f"Rome\n{executor.workspace_dir}/deep\n"
        assert result.message == ""

"""What a restore cannot clear away, and a lock that a child has inherited."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from agentd_snapshots import Snapshots
from agentd_snapshots.journal import RestoreJournal
from snapshot_trees import write

USER = 65534


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder of an unprivileged user, who cannot enter pytest's."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to make files of another user: run the tests as root too")
    folder = Path(tempfile.mkdtemp(prefix="agentd-snap-", dir="/tmp"))
    write(folder, {"warm/file": "1"})
    Snapshots(folder / "warm", folder / "warm base").snapshot()  # imports what that user may not read
    os.chown(folder, USER, USER)
    yield folder
    shutil.rmtree(folder)


def as_user(work: Callable[[], object]) -> None:
    """Do it in a child process as the unprivileged user."""
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setgid(USER)
            os.setuid(USER)
            work()
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def make_stuck(workspace: Path) -> None:
    """A folder of the user's with root's in it, as a container leaves it behind: it can be moved, but not emptied."""
    write(workspace, {"users/roots/file": "1"})
    os.chown(workspace / "users", USER, USER)


def left_in(workspace: Path) -> list[Path]:
    return list(workspace.glob(".agentd-restore-*"))


def test_a_restore_that_cannot_clear_away_what_it_replaced_is_done_all_the_same(home: Path) -> None:
    workspace = home / "workspace"
    said: list[str] = []

    def begin() -> None:
        write(workspace, {"file": "1"})
        Snapshots(workspace, home / "base").snapshot()

    def restore() -> None:
        write(workspace, {"file": "2"})
        handler = logging.Handler()
        handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
        logging.getLogger("agentd.snapshots").addHandler(handler)
        snapshots = Snapshots(workspace, home / "base")
        snapshots.restore("turn_0001")
        (staging,) = left_in(workspace)
        assert [staging.name in text for text in said] == [True]
        assert not snapshots.diff("turn_0001")
        assert RestoreJournal.read(snapshots.store) is None
        assert snapshots.snapshot().stats.files == 1
        write(workspace, {"file": "3"})
        snapshots.restore("turn_0001")
        assert (workspace / "file").read_text() == "1"

    as_user(begin)
    make_stuck(workspace)
    as_user(restore)
    assert not (workspace / "users").exists()


@pytest.mark.parametrize("phase", ["staging", "applying"])
def test_a_restore_that_was_killed_is_ended_though_its_staging_folder_resists(home: Path, phase: str) -> None:
    workspace = home / "workspace"

    def begin() -> None:
        write(workspace, {"file": "1"})
        snapshots = Snapshots(workspace, home / "base")
        snapshots.snapshot()
        write(workspace, {"file": "2"})
        made = workspace.stat().st_mtime_ns
        file = (workspace / "file").stat()
        old = {"file": [file.st_ino, file.st_mtime_ns, file.st_size]}
        RestoreJournal(phase, "turn_0001", ".agentd-restore-x", made, ["file"], old).write(snapshots.store)  # type: ignore[arg-type]

    def go_on() -> None:
        snapshots = Snapshots(workspace, home / "base")
        assert RestoreJournal.read(snapshots.store) is None
        assert (workspace / "file").read_text() == {"staging": "2", "applying": "1"}[phase]
        assert [path.name for path in left_in(workspace)] == [".agentd-restore-x"]

    as_user(begin)
    make_stuck(workspace / ".agentd-restore-x")
    os.chown(workspace / ".agentd-restore-x", USER, USER)
    as_user(go_on)


def test_a_child_that_was_forked_meanwhile_does_not_keep_the_lock(workspace: Path, base_dir: Path) -> None:
    write(workspace, {"file": "1"})
    snapshots = Snapshots(workspace, base_dir, lock_timeout_s=0)
    reading, writing = os.pipe()
    with snapshots.store.locked():
        pid = os.fork()
        if pid == 0:
            os.close(writing)
            os.read(reading, 1)
            os._exit(0)
    os.close(reading)
    try:
        assert snapshots.snapshot().stats.files == 1
    finally:
        os.close(writing)
        os.waitpid(pid, 0)

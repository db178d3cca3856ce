"""What stands in a workspace for absent files: shared by sessions, taken away by the last, cleared after a kill."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from agentd_runner.stand_ins import FOLDER, StandIns, left_behind, standing_in

WANTED = {".claude": FOLDER, ".claude/agents": FOLDER, ".envrc": "", ".git/commondir": ".\n"}


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "w" / ".git").mkdir(parents=True)
    return tmp_path / "w"


@pytest.fixture
def mark(tmp_path: Path) -> str:
    return str(tmp_path / "state" / "executor.one")


def names(workspace: Path) -> set[str]:
    return {str(path.relative_to(workspace)) for path in workspace.rglob("*")}


def lose(stand_ins: StandIns) -> None:
    """As if its session had been killed: nobody holds the record."""
    os.close(stand_ins._record)
    os.close(stand_ins._root)


def test_what_is_absent_is_made_and_taken_away_and_what_is_there_stays(workspace: Path, mark: str) -> None:
    (workspace / ".envrc").touch()
    made = StandIns(mark, str(workspace), WANTED)
    assert names(workspace) == {".git", ".claude", ".claude/agents", ".envrc", ".git/commondir"}
    assert (workspace / ".git" / "commondir").read_text() == ".\n"
    assert sorted(standing_in(os.path.dirname(mark))) == [".claude", ".claude/agents", ".git/commondir"]
    made.remove()
    assert names(workspace) == {".git", ".envrc"}
    assert not os.path.exists(os.path.dirname(mark))


def test_what_somebody_has_filled_meanwhile_stays(workspace: Path, mark: str) -> None:
    made = StandIns(mark, str(workspace), WANTED)
    (workspace / ".claude" / "agents" / "mine").write_text("x")
    for name in (".envrc", ".git/commondir"):
        (workspace / name).chmod(0o644)
        (workspace / name).write_text("mine")
    made.remove()
    assert names(workspace) == {
        *(".git", ".git/commondir", ".envrc"),
        *(".claude", ".claude/agents", ".claude/agents/mine"),
    }


def test_no_link_is_followed(workspace: Path, mark: str, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (workspace / ".git").rmdir()
    (workspace / ".git").symlink_to(tmp_path / "outside")
    (workspace / ".envrc").symlink_to(tmp_path / "outside" / "file")
    made = StandIns(mark, str(workspace), WANTED)
    assert list((tmp_path / "outside").iterdir()) == []
    (tmp_path / "outside" / "commondir").write_text(".\n")
    made.remove()
    assert (tmp_path / "outside" / "commondir").exists()
    assert (workspace / ".envrc").is_symlink()


def test_the_last_of_those_who_share_takes_away(workspace: Path, mark: str) -> None:
    one = StandIns(mark, str(workspace), {**WANTED, "one": ""})
    two = StandIns(mark, str(workspace), {**WANTED, "two": ""})
    one.remove()
    assert names(workspace) == {".git", "two", *WANTED}
    assert left_behind(mark, str(workspace)) == []
    two.remove()
    assert names(workspace) == {".git"}


def test_what_a_killed_session_has_left_is_used_on_or_taken_away(workspace: Path, mark: str) -> None:
    lose(StandIns(mark, str(workspace), {**WANTED, "old": ""}))
    two = StandIns(mark, str(workspace), WANTED)
    assert names(workspace) == {".git", *WANTED}
    lose(two)
    assert sorted(left_behind(mark, str(workspace))) == sorted(WANTED)
    assert names(workspace) == {".git"}
    assert not os.path.exists(mark)


def test_a_record_that_was_cut_short_is_no_hindrance(workspace: Path, mark: str) -> None:
    os.makedirs(mark)
    Path(mark, "1-cut").write_bytes(b".envrc\0\0.vscode\0")
    StandIns(mark, str(workspace), WANTED).remove()
    assert names(workspace) == {".git"}
    assert not os.path.exists(mark)


def test_a_file_that_was_half_written_is_taken_away(workspace: Path, mark: str) -> None:
    lose(StandIns(mark, str(workspace), WANTED))
    (workspace / ".git/commondir").chmod(0o644)
    (workspace / ".git/commondir").write_text("")  # git would refuse the repository
    left_behind(mark, str(workspace))
    assert names(workspace) == {".git"}


def test_what_cannot_be_made_leaves_nothing_and_holds_nothing_open(
    workspace: Path, mark: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(number: int, data: bytes) -> int:  # as a disk that has names left and no room
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = set(os.listdir("/proc/self/fd"))  # of which other tests may still be closing theirs
    monkeypatch.setattr(os, "write", full)  # of `.git/commondir`, the last one
    with pytest.raises(OSError, match="No space"):
        StandIns(mark, str(workspace), WANTED)
    assert names(workspace) == {".git"}
    assert not os.path.exists(mark)
    assert set(os.listdir("/proc/self/fd")) <= before


def test_sessions_of_different_executors_share_what_stands_in(workspace: Path, mark: str) -> None:
    other = mark.replace("executor.one", "executor.two")
    one = StandIns(mark, str(workspace), WANTED)
    two = StandIns(other, str(workspace), WANTED)
    one.remove()
    assert names(workspace) == {".git", *WANTED}
    assert sorted(standing_in(os.path.dirname(mark))) == sorted(WANTED)
    lose(two)
    assert left_behind(mark, str(workspace)) == [], "its own executor settles it"
    assert sorted(left_behind(other, str(workspace))) == sorted(WANTED)
    assert names(workspace) == {".git"}
    assert not os.path.exists(os.path.dirname(mark))


def test_marks_of_others_in_the_folder_are_left_alone(workspace: Path, mark: str) -> None:
    os.makedirs(os.path.dirname(mark))
    Path(os.path.dirname(mark), "snapshots.packs").write_text("a folder")
    StandIns(mark, str(workspace), WANTED).remove()
    assert os.listdir(os.path.dirname(mark)) == ["snapshots.packs"]


def test_a_forked_child_that_goes_on_does_not_make_a_killed_session_look_alive(
    workspace: Path, mark: str
) -> None:
    program = """
import os, sys, time
from agentd_runner.stand_ins import StandIns
made = StandIns(sys.argv[1], sys.argv[2], {".envrc": ""})
child = os.fork()
if child == 0:
    made.let_go()
    print("ready", flush=True)
    sys.stdin.readline()
    os._exit(0)
os.waitpid(child, 0)
"""
    command = [sys.executable, "-c", program, mark, str(workspace)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as host:
        assert host.stdout is not None
        assert host.stdout.readline() == b"ready\n"
        assert left_behind(mark, str(workspace)) == [], "the session lives"
        host.send_signal(signal.SIGKILL)
        host.wait()
        assert left_behind(mark, str(workspace)) == [".envrc"]
        assert host.stdin is not None
        host.stdin.close()  # the child ends


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it is about whose root's files are")
def test_what_root_makes_is_the_workspace_owner_s(workspace: Path, mark: str) -> None:
    for path in (workspace, workspace / ".git"):
        os.chown(path, 12345, 54321)
    made = StandIns(mark, str(workspace), WANTED)
    assert {(path.lstat().st_uid, path.lstat().st_gid) for path in workspace.rglob("*")} == {(12345, 54321)}
    made.remove()
    assert names(workspace) == {".git"}

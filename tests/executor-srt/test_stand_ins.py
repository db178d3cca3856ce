"""What stands in for absent files: several sessions share it, and whatever opens the workspace next clears it."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest
import sandbox
from agentd.types import BashAction
from agentd.workspace import settle_workspace
from agentd_executor_srt.executor import SandboxRuntimeExecutor
from agentd_executor_srt.settling import mark_dir
from agentd_executor_srt.stand_ins import FOLDER, StandIns, left_behind, standing_in
from agentd_executor_subprocess.executor import SubprocessExecutor

WANTED = {".claude": FOLDER, ".claude/agents": FOLDER, ".envrc": "", ".git/commondir": ".\n"}


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "w" / ".git").mkdir(parents=True)
    return tmp_path / "w"


@pytest.fixture
def mark(tmp_path: Path) -> str:
    return str(tmp_path / "state" / "executor.srt")


def names(workspace: Path) -> set[str]:
    return {str(path.relative_to(workspace)) for path in workspace.rglob("*")}


def lose(stand_ins: StandIns) -> None:
    """As if its session had been killed: nobody holds the record."""
    os.close(stand_ins._record)
    os.close(stand_ins._root)


def kill(executor: SandboxRuntimeExecutor) -> None:
    """Kill the supervisor of a session, and wait until nothing of the session is left."""
    pid = executor._connection.process.pid  # type: ignore[union-attr]
    os.kill(pid, signal.SIGKILL)
    assert executor._process is not None
    executor._process.wait_gone(20)


# --- making and removing ------------------------------------------------------------------------


def test_what_is_absent_is_made_and_taken_away_and_what_is_there_stays(workspace: Path, mark: str) -> None:
    (workspace / ".envrc").touch()
    made = StandIns(mark, str(workspace), WANTED)
    assert names(workspace) == {".git", ".claude", ".claude/agents", ".envrc", ".git/commondir"}
    assert (workspace / ".git" / "commondir").read_text() == ".\n"
    assert sorted(standing_in(mark)) == [".claude", ".claude/agents", ".git/commondir"]
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
    assert left_behind(mark, str(workspace)) is None
    two.remove()
    assert names(workspace) == {".git"}


def test_what_a_killed_session_has_left_is_used_on_or_taken_away(workspace: Path, mark: str) -> None:
    lose(StandIns(mark, str(workspace), {**WANTED, "old": ""}))
    two = StandIns(mark, str(workspace), WANTED)
    assert names(workspace) == {".git", *WANTED}
    lose(two)
    assert sorted(left_behind(mark, str(workspace)) or ()) == sorted(WANTED)
    assert names(workspace) == {".git"}
    assert not os.path.exists(mark)


def test_a_record_that_was_cut_short_is_no_hindrance(workspace: Path, mark: str) -> None:
    os.makedirs(mark)
    Path(mark, "1-cut").write_bytes(b".envrc\0\0.vscode\0")
    StandIns(mark, str(workspace), WANTED).remove()
    assert names(workspace) == {".git"}
    assert not os.path.exists(mark)


# --- sessions -----------------------------------------------------------------------------------


def test_sessions_that_start_at_once_in_one_workspace_all_work(tmp_path: Path) -> None:
    executors = [sandbox.make(tmp_path, timeout=30) for _ in range(3)]
    said: dict[int, object] = {}

    def run(number: int) -> None:
        try:
            said[number] = executors[number].execute_bash(f"echo {number} > from-{number}; echo works")
        except Exception as error:
            said[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    try:
        assert said == dict.fromkeys(range(3), ("works\n", 0))
        assert executors[0].execute_bash("cat from-*") == ("0\n1\n2\n", 0)
    finally:
        for executor in executors:
            executor.close()
    assert names(tmp_path) == {"from-0", "from-1", "from-2"}


def test_what_one_session_guards_stays_guarded_when_another_ends(tmp_path: Path) -> None:
    first, second = (sandbox.make(tmp_path, timeout=30) for _ in range(2))
    first.execute_bash("true")
    assert second.execute_bash("true") == ("", 0)
    assert set(second.placeholders) == set(first.placeholders)
    first.close()
    try:
        command = "(echo x > .envrc) 2>/dev/null && echo made; mkdir .claude/x 2>/dev/null && echo made; "
        assert second.execute_bash(
            command + "mktemp -p $TMPDIR >/dev/null && ls -d $HOME >/dev/null && echo home"
        ) == (
            "home\n",
            0,
        )
        assert ".envrc" in second.snapshot_exclude
    finally:
        second.close()
    assert second.snapshot_exclude == ()
    assert names(tmp_path) - {".agentd"} <= {path for path in names(tmp_path) if path.startswith(".agentd")}


@pytest.mark.parametrize("opens", ["subprocess", "srt", "session"])
def test_whatever_opens_a_workspace_clears_it_after_a_killed_session_and_says_so(
    tmp_path: Path, opens: str
) -> None:
    killed = sandbox.make(tmp_path, timeout=30)
    killed.execute_bash("echo mine > file")
    kill(killed)
    assert (tmp_path / ".envrc").exists(), "the kill is told by what it leaves"
    assert mark_dir(tmp_path).is_dir()
    if opens == "session":
        (told, *given) = settle_workspace(tmp_path)
    else:
        make = sandbox.make if opens == "srt" else SubprocessExecutor
        with make(tmp_path) as executor:
            result = executor.run_sync(BashAction(command="cat file; test -s .envrc || ls .bashrc"))
            told = result.message
            given = [told]
            assert result.stdout.startswith(b"mine\n")
            assert (b".bashrc" in result.stdout) == (opens == "srt")
    assert "was killed before it could tidy up" in told
    assert "'.envrc'" in told or "..." in told
    if os.geteuid() == 0:
        assert any(f"{str(tmp_path)!r} was given back to its owner" in text for text in given)
        assert {path.lstat().st_uid for path in (tmp_path, *tmp_path.rglob("*"))} == {0}
    killed.close()
    assert {name for name in names(tmp_path) if not name.startswith(".agentd")} == {"file"}
    assert not mark_dir(tmp_path).exists()

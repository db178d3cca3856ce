"""Settings that are absent: code cannot make them while a sandbox runs, and nothing is left of what stood there."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import native
import pytest
from agentd.types import BashAction
from agentd_executor_native.standing import GuardedNames
from agentd_executor_subprocess.executor import SubprocessExecutor
from agentd_runner.host.placeholders import PLACEHOLDERS, mark_dir
from agentd_snapshots import Snapshots

PROGRAM = """
import os, sys
from agentd_executor_native.executor import NativeExecutor
from agentd.types import BashAction
executor = NativeExecutor(sys.argv[1])
executor.run_sync(BashAction(command="echo mine > file"))
print("ready", flush=True)
if sys.argv[2:] == ["child"]:
    if os.fork() == 0:
        sys.exit()  # runs what is to be done at the end of a program
    os.wait()
    print(sorted(os.listdir(sys.argv[1])), executor.run_sync(BashAction(command="cat file")).stdout, flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "w").mkdir()
    return tmp_path / "w"


def names(workspace: Path) -> set[str]:
    return set(os.listdir(workspace))


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait for what other processes and threads do."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def start(workspace: Path, *more: str) -> subprocess.Popen[bytes]:
    """Start a program with a session, and wait until that runs."""
    native.need_native()
    command = [sys.executable, "-c", PROGRAM, str(workspace), *more]
    program = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert program.stdout is not None
    assert program.stdout.readline() == b"ready\n"
    return program


def test_what_is_absent_cannot_be_made_and_what_is_there_not_changed(workspace: Path) -> None:
    subprocess.run(["git", "init", "--quiet", "--template=", str(workspace)], check=True)
    (workspace / ".bashrc").write_text("mine")
    tops = {name for name in PLACEHOLDERS if "/" not in name}
    with native.make(workspace) as executor:
        for name in GuardedNames.of(workspace, allow_git_config=False).all:
            made = f"echo x > {name} || mkdir {name} || mkdir {name}/x || rm -r {name}"
            assert executor.execute_bash(f"({made}) 2>/dev/null")[1] != 0, name
        for holding in (".git", ".claude"):
            assert executor.execute_bash(f"mv {holding} away 2>/dev/null")[1] != 0, holding
        assert names(workspace) == tops | {".git", ".agentd"}
        said = executor.execute_bash(
            "git add -A && git status --porcelain; git check-ignore .envrc .agentd/x"
        )
        assert said == ("A  .bashrc\n.envrc\n.agentd/x\n", 0)
        assert set(executor.snapshot_exclude) >= tops - {".bashrc"}
    assert names(workspace) == {".bashrc", ".git"}
    assert not {"hooks", "commondir", "config.worktree"} & set(os.listdir(workspace / ".git"))
    assert (workspace / ".bashrc").read_text() == "mine"
    assert executor.snapshot_exclude == ()
    assert not mark_dir(workspace, "native").exists()


def test_with_allow_git_config_its_settings_are_code_s_and_no_other_folder_can_be_named(
    workspace: Path,
) -> None:
    subprocess.run(["git", "init", "--quiet", str(workspace)], check=True)
    with native.make(workspace, allow_git_config=True) as executor:
        assert executor.execute_bash("git config user.name x && echo > .git/config.worktree")[1] == 0
        assert executor.execute_bash("(echo /tmp > .git/commondir) 2>/dev/null")[1] != 0


def test_the_last_of_several_sessions_takes_away_what_they_share(workspace: Path) -> None:
    first, second = native.make(workspace), native.make(workspace)
    first.execute_bash("true")
    assert second.execute_bash("echo x > made") == ("", 0)
    first.close()
    try:
        assert second.execute_bash("(echo x > .envrc) 2>/dev/null")[1] != 0
        assert (workspace / ".envrc").exists()
    finally:
        second.close()
    assert names(workspace) == {"made"}


def test_a_sandbox_that_takes_another_s_place_guards_the_same(workspace: Path) -> None:
    with native.make(workspace) as executor:
        executor.execute_bash("true")
        assert executor._connection is not None
        executor._connection.process.kill()
        until(lambda: executor._connected() is None)
        assert executor.execute_bash("(echo x > .envrc) 2>/dev/null")[1] != 0
    assert names(workspace) == set()


def test_after_a_kill_whatever_opens_the_workspace_clears_it_and_says_so(workspace: Path) -> None:
    with start(workspace) as program:
        program.send_signal(signal.SIGKILL)
    assert (workspace / ".envrc").exists(), "the kill is told by what it leaves"
    with SubprocessExecutor(workspace) as executor:
        result = executor.run_sync(BashAction(command="cat file; ls -A"))
        assert result.stdout.decode().split() == ["mine", ".agentd", "file"]
        assert "was killed before it could tidy up" in result.message
    assert names(workspace) == {"file"}
    assert not mark_dir(workspace, "native").exists()


def test_after_a_kill_nothing_is_said_of_a_workspace_that_was_made_anew(workspace: Path) -> None:
    with start(workspace) as program:
        program.send_signal(signal.SIGKILL)
    shutil.rmtree(workspace)
    with SubprocessExecutor(workspace) as executor:
        assert executor.execute_bash("ls") == ("", 0)
    assert not mark_dir(workspace, "native").exists()


def test_a_program_that_ends_without_closing_leaves_nothing(workspace: Path) -> None:
    with start(workspace) as program:
        assert program.stdin is not None
        program.stdin.close()
    assert names(workspace) == {"file"}
    assert not mark_dir(workspace, "native").exists()


def test_the_end_of_a_forked_child_ends_nothing_of_its_parent(workspace: Path) -> None:
    with start(workspace, "child") as program:
        assert program.stdout is not None
        said = program.stdout.readline()
        assert b"'.envrc'" in said
        assert said.endswith(b" b'mine\\n'\n")
        assert program.stdin is not None
        program.stdin.close()
    assert names(workspace) == {"file"}


def test_a_forgotten_executor_leaves_nothing(workspace: Path) -> None:
    executor = native.make(workspace)
    executor.execute_bash("true")
    assert (workspace / ".envrc").exists()
    del executor
    gc.collect()
    until(lambda: names(workspace) == set())


def test_a_sandbox_that_does_not_start_leaves_nothing(workspace: Path, tmp_path: Path) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    executor = native.make(workspace, python=program)
    with pytest.raises(Exception, match="did not start"):
        executor.execute_bash("true")
    assert names(workspace) == set()


def test_snapshots_leave_it_out_and_a_restore_brings_back_what_was_there_before(
    workspace: Path, tmp_path: Path
) -> None:
    (workspace / ".envrc").write_text("mine")
    with native.make(workspace, base_dir=tmp_path / "base") as executor:
        first = executor.snapshot()
        assert first.stats.files == 1
        (workspace / ".envrc").unlink()
        assert executor.execute_bash("echo x > made") == ("", 0)
        kept = executor.snapshot()
        assert kept.stats.files == 1
        other = Snapshots(
            workspace, tmp_path / "other", exclude=lambda: SubprocessExecutor(workspace).snapshot_exclude
        )
        assert other.snapshot().stats.files == 1, "of whichever executor they are"
        executor.restore(first)
        assert (workspace / ".envrc").read_text() == "mine"
        output, code = executor.execute_bash("echo y >> .envrc")
        assert code != 0, output
    assert (workspace / ".envrc").read_text() == "mine"
    assert names(workspace) == {".envrc"}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it is about whose root's files are")
def test_of_root_s_sandboxes_it_is_the_workspace_owner_s(workspace: Path) -> None:
    os.chown(workspace, 12345, 12345)
    with native.make(workspace) as executor:
        assert executor.execute_bash("cat .envrc; ls .claude; chmod 700 .claude 2>/dev/null")[1] != 0
        there = {path.name: path.lstat().st_uid for path in workspace.iterdir() if path.name != ".agentd"}
        assert there == dict.fromkeys(there, 12345)
        assert ".claude" in there
    assert names(workspace) == set()

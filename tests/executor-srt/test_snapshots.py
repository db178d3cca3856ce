"""Snapshots of a workspace in which a sandbox runs, and restores between its actions."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import sandbox
from agentd_snapshots import Snapshots


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    made = tmp_path / "workspace"
    made.mkdir()
    return made


def names(workspace: Path) -> set[str]:
    return set(os.listdir(workspace)) - {".agentd"}


def owners(workspace: Path) -> set[tuple[int, int]]:
    return {(found.st_uid, found.st_gid) for path in workspace.rglob("*") for found in [path.lstat()]}


def test_placeholders_are_left_out_and_reported_and_what_is_the_user_s_is_kept(
    workspace: Path, tmp_path: Path
) -> None:
    (workspace / ".bashrc").write_text("the user's")
    with sandbox.make(workspace) as executor:
        assert executor.snapshot_exclude == ()
        snapshots = Snapshots(workspace, tmp_path / "base", exclude=lambda: executor.snapshot_exclude)
        executor.execute_bash("echo 1 > made")
        there = names(workspace)
        kept = snapshots.snapshot()
    assert there > {".bashrc", "made"}, "srt makes placeholders no more: then nothing of this is needed"
    reported = {left.path for left in kept.stats.left_out if left.reason == "excluded"} - {".agentd"}
    assert reported == there - {".bashrc", "made"}
    assert kept.stats.files == 2
    assert executor.snapshot_exclude == ()
    (workspace / ".envrc").write_text("made later by the user")
    assert snapshots.snapshot().stats.files == 3


def test_a_restore_after_a_pause_leaves_everything_guarded_and_writable_as_it_was(
    workspace: Path, tmp_path: Path
) -> None:
    subprocess.run(["git", "init", "--quiet", str(workspace)], check=True)
    (workspace / "file").write_text("old")
    (workspace / ".bashrc").write_text("old")
    with sandbox.make(workspace) as executor:
        snapshots = Snapshots(workspace, tmp_path / "base", exclude=lambda: executor.snapshot_exclude)
        kept = snapshots.snapshot()
        (workspace / ".git" / "config").write_text("[core]\n")
        (workspace / ".bashrc").write_text("new")
        assert executor.execute_bash("echo new > file; mkdir made") == ("", 0)
        executor.pause()
        assert names(workspace) == {".git", ".bashrc", "file", "made"}
        snapshots.restore(kept)
        assert names(workspace) == {".git", ".bashrc", "file"}
        for guarded in (".git/config", ".git/hooks/x", ".bashrc", ".mcp.json"):
            output, code = executor.execute_bash(f"echo x >> {guarded}")
            assert code != 0, f"{guarded} can be written to: {output}"
        assert executor.execute_bash("cat file; echo newer > file; cat file")[0].endswith("oldnewer\n")
    assert (workspace / ".bashrc").read_text() == "old"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: its sandboxes have a user of their own")
def test_files_belong_to_who_the_workspace_belongs_to_whenever_they_are_kept_and_restored(
    workspace: Path, tmp_path: Path
) -> None:
    (workspace / "before").write_text("1")
    with sandbox.make(workspace) as executor:
        snapshots = Snapshots(workspace, tmp_path / "base", exclude=lambda: executor.snapshot_exclude)
        outside = snapshots.snapshot()
        executor.execute_bash("echo 2 > before; mkdir sub; echo 3 > sub/made")
        inside = snapshots.snapshot()
        executor.execute_bash("rm -r before sub")
        executor.pause()
        assert snapshots.restore(inside).stats.files == 2
        assert owners(workspace) == {(0, 0)}
        executor.execute_bash("rm -r before sub")
        snapshots.restore(outside)  # not paused: the files are the sandbox's user's all the same
        assert executor.execute_bash("echo 4 >> before; cat before") == ("14\n", 0)
    assert owners(workspace) == {(0, 0)}

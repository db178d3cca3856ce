"""A restore that was killed, and a workspace in which somebody has worked since."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from agentd.errors import SnapshotError
from agentd.workspace import settle_workspace, unfinished_dir
from agentd_snapshots import Snapshots, UnfinishedRestoreError
from killed_restore import kill_a_restore
from snapshot_trees import write

WORK: dict[str, Callable[[Path], object]] = {
    "a new file": lambda ws: write(ws, {"notes": "mine"}),
    "a new file in a folder that goes": lambda ws: write(ws, {"new/notes": "mine"}),
    "an edit of a file that goes": lambda ws: (ws / "tree").write_text("mine"),
    "an edit of a file that stays": lambda ws: (ws / "same").write_text("mine"),
    "an empty folder": lambda ws: (ws / "ideas").mkdir(),
    "a link": lambda ws: (ws / "link").symlink_to("same"),
}


def edit_with_an_old_time(workspace: Path) -> None:
    """As a tool that keeps times does, or a clock that was set back."""
    write(workspace, {"notes": "mine"})
    os.utime(workspace / "notes", ns=(1, 1))


@pytest.mark.parametrize("name", [*WORK, "an old time"])
def test_what_is_newer_than_a_killed_restore_is_never_removed_unseen(
    workspace: Path, base_dir: Path, name: str
) -> None:
    kill_a_restore(workspace, base_dir)
    WORK.get(name, edit_with_an_old_time)(workspace)
    before = contents(workspace)
    snapshots = Snapshots(workspace, base_dir)
    for work in (
        snapshots.snapshot,
        lambda: snapshots.restore("second"),
        snapshots.settle,
        lambda: settle_workspace(workspace),
    ):
        with pytest.raises(UnfinishedRestoreError) as caught:
            work()
        assert len(caught.value.paths) == 1
        assert "finish" in str(caught.value)
        assert "abandon" in str(caught.value)
    assert contents(workspace) == before


def test_finishing_keeps_the_newer_files_in_a_snapshot(workspace: Path, base_dir: Path) -> None:
    kill_a_restore(workspace, base_dir)
    write(workspace, {"notes": "mine"})
    snapshots = Snapshots(workspace, base_dir)
    kept = snapshots.finish_restore()
    assert kept is not None
    assert kept.label == "before finishing turn_0001"
    assert not snapshots.diff("first")
    assert not (workspace / "notes").exists()
    assert snapshots.finish_restore() is None
    snapshots.restore(kept)
    assert (workspace / "notes").read_text() == "mine"


@pytest.mark.parametrize("replaced", [1, 2, 3])
def test_abandoning_leaves_the_workspace_as_it_is_and_gives_back_what_was_taken(
    workspace: Path, base_dir: Path, replaced: int
) -> None:
    kill_a_restore(workspace, base_dir, replaced=replaced)
    write(workspace, {"notes": "mine", "replaced-by-turn_0001": "mine"})
    before = contents(workspace)
    snapshots = Snapshots(workspace, base_dir)
    folder = snapshots.abandon_restore()
    assert folder == workspace / "replaced-by-turn_0001-2"
    after = contents(workspace)
    given_back = {path: after.pop(path) for path in list(after) if path.startswith(folder.name)}
    assert after == {path: text for path, text in before.items() if not path.startswith(".agentd")}
    second = {"edited": "two", "tree": "two", **{f"new/{n}": "two" for n in range(3)}}
    found = {path.removeprefix(f"{folder.name}/"): text for path, text in given_back.items()}
    assert found
    assert found.items() <= second.items()
    assert snapshots.snapshot().stats.files == len(after) + len(found)
    assert settle_workspace(workspace) == []
    assert snapshots.abandon_restore() is None


def test_a_restore_where_nobody_has_worked_is_finished_and_told(workspace: Path, base_dir: Path) -> None:
    kill_a_restore(workspace, base_dir)
    said = settle_workspace(workspace)  # which knows nothing of base_dir
    assert said == [f"restoring 'turn_0001' in {str(workspace)!r} had been interrupted; it is finished now"]
    assert not Snapshots(workspace, base_dir).diff("first")
    assert settle_workspace(workspace) == []
    assert not unfinished_dir(workspace).exists()


def test_what_was_excluded_from_the_restore_is_not_touched_by_its_end(
    workspace: Path, base_dir: Path
) -> None:
    kill_a_restore(workspace, base_dir, exclude=["skills"])
    assert len(settle_workspace(workspace)) == 1
    assert not Snapshots(workspace, base_dir, exclude=["skills"]).diff("first")
    assert (workspace / "skills/file").read_text() == "kept"


def test_a_store_that_is_gone_is_told(workspace: Path, base_dir: Path) -> None:
    kill_a_restore(workspace, base_dir)
    base_dir.rename(base_dir.with_name("elsewhere"))
    assert "is gone" in settle_workspace(workspace)[0]
    assert not base_dir.exists()
    assert settle_workspace(workspace) == []


@pytest.mark.parametrize(
    "damage", [{"staging": "../x"}, {"staging": 3}, {"phase": "?"}, {"root_mtime_ns": "1"}, {"old": [1]}]
)
def test_a_damaged_journal_is_named_and_nothing_is_touched(
    workspace: Path, base_dir: Path, damage: dict[str, object]
) -> None:
    kill_a_restore(workspace, base_dir)
    path = next(base_dir.glob("*/journal"))
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **damage}))
    before = contents(workspace)
    with pytest.raises(SnapshotError, match=r"journal.*is damaged"):
        Snapshots(workspace, base_dir)
    assert contents(workspace) == before


@pytest.mark.parametrize("what", ["finish", "abandon"])
def test_the_command_of_the_message_does_what_it_says(workspace: Path, base_dir: Path, what: str) -> None:
    kill_a_restore(workspace, base_dir)
    write(workspace, {"notes": "mine"})
    with pytest.raises(UnfinishedRestoreError) as caught:
        settle_workspace(workspace)
    command = next(part for part in str(caught.value).split(": ") if f"agentd_snapshots {what}" in part)
    words = command.partition(". Or")[0].replace("python ", "").replace("'", "").split()
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert settle_workspace(workspace) == []
    assert (workspace / "notes").exists() == (what == "abandon")
    assert (
        "kept in the snapshot 'turn_0003'" if what == "finish" else "replaced-by-turn_0001"
    ) in done.stdout


def contents(folder: Path) -> dict[str, str]:
    """The files and empty folders by path."""
    return {
        str(path.relative_to(folder)): path.read_text() if path.is_file() else "folder"
        for path in folder.rglob("*")
        if path.is_file() or not any(path.iterdir())
    }

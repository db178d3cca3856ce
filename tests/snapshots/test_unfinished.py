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
from agentd_snapshots.journal import RestoreJournal
from killed_restore import kill_a_finish, kill_a_restore
from killed_steps import killed_at_every_step
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


# --- both choices may be killed as well ---------------------------------------------------------------------------


def interrupted(folder: Path) -> Snapshots:
    """A workspace in which a restore was killed and somebody has worked since; nothing is settled."""
    folder.mkdir()
    workspace, base_dir = folder / "workspace", folder / "snapshots"
    workspace.mkdir()
    kill_a_restore(workspace, base_dir, replaced=2)
    write(workspace, {"notes": "mine", "tree": "mine"})
    return Snapshots(workspace, base_dir, settle=False)


def known_texts(workspace: Path) -> set[tuple[str, str]]:
    """Name and content of every file, wherever it lies."""
    return {(Path(path).name, text) for path, text in contents(workspace).items() if text != "folder"} | {
        (name, (workspace / staged).read_text())
        for name, staged in taken_away(workspace)
        if (workspace / staged).is_file()
    }


def taken_away(workspace: Path) -> list[tuple[str, str]]:
    """What the first restore has moved away: the file `edited` and the folder with three files."""
    return [
        ("edited", str(path.relative_to(workspace)))
        for path in workspace.glob(".agentd-restore-*/o*")
        if path.is_file() and path.read_text() == "two"
    ]


@pytest.mark.slow
@pytest.mark.parametrize("again", ["finish", "abandon"])
@pytest.mark.parametrize("later", [False, True], ids=["untouched", "worked in again"])
def test_both_choices_are_there_and_right_after_a_kill_at_any_step_of_finishing(
    tmp_path: Path, again: str, later: bool
) -> None:
    current = [interrupted(tmp_path / "0")]
    seen: set[bool] = set()
    for step in killed_at_every_step(lambda: current[0].finish_restore(), every=3):
        snapshots = current[0]
        workspace, base_dir = snapshots.workspace_dir, snapshots.store.folder.parent
        if later:
            write(workspace, {"later": "mine"})
        snapshots = Snapshots(workspace, base_dir)
        if RestoreJournal.left(snapshots.store):
            with pytest.raises(UnfinishedRestoreError) as caught:
                settle_workspace(workspace)
            assert {"notes", "tree", *(["later"] if later else [])} <= {*caught.value.paths}
            seen.add(True)
            if again == "finish":
                check_finish(snapshots, later=later)
            else:
                check_abandon(snapshots, later=later)
        else:  # it was over, but for its staging folders
            seen.add(False)
            assert (workspace / "later").exists() == later
            (workspace / "later").unlink(missing_ok=True)
            assert not snapshots.diff("first")
            assert snapshots.abandon_restore() is None
        assert settle_workspace(workspace) == []
        assert not list(workspace.glob(".agentd*"))
        current[0] = interrupted(tmp_path / str(step))
    assert seen == {True, False}


def check_finish(snapshots: Snapshots, *, later: bool) -> None:
    kept = snapshots.finish_restore()
    assert kept is not None
    assert not snapshots.diff("first")
    everything = set()
    for one in snapshots.list_snapshots():
        if one.label and one.label.startswith("before finishing"):
            snapshots.restore(one)
            everything |= known_texts(snapshots.workspace_dir)
    assert {("notes", "mine"), ("tree", "mine"), *([("later", "mine")] if later else [])} <= everything
    snapshots.restore(kept)
    assert (snapshots.workspace_dir / ("later" if later else "notes")).read_text() == "mine"


def check_abandon(snapshots: Snapshots, *, later: bool) -> None:
    workspace = snapshots.workspace_dir
    before = {path: text for path, text in contents(workspace).items() if not path.startswith(".agentd")}
    folder = snapshots.abandon_restore()
    assert folder is not None
    after = contents(workspace)
    assert before.items() <= after.items()  # as it was, and beside that what was taken away, by all attempts
    expected = {("notes", "mine"), ("tree", "mine"), ("edited", "two"), *((str(n), "two") for n in range(3))}
    assert expected <= {(Path(path).name, text) for path, text in after.items()}
    assert (workspace / "later").exists() == later


@pytest.mark.slow
@pytest.mark.parametrize("finished", [False, True], ids=["at once", "after a killed finish"])
def test_leaving_the_workspace_as_it_is_is_ended_by_whoever_opens_it_next(
    tmp_path: Path, finished: bool
) -> None:
    def prepared(name: str) -> Snapshots:
        made = interrupted(tmp_path / name)
        if finished:
            kill_a_finish(made)
        return made

    current = [prepared("0")]
    said: list[str] = []
    for step in killed_at_every_step(lambda: current[0].abandon_restore()):
        workspace, base_dir = current[0].workspace_dir, current[0].store.folder.parent
        try:
            said += settle_workspace(workspace)
        except UnfinishedRestoreError:  # it had not begun
            check_abandon(Snapshots(workspace, base_dir), later=False)
        expected = {("notes", "mine"), ("tree", "mine"), ("edited", "two"), ("0", "two")}
        assert expected <= known_texts(workspace)
        assert len(list(workspace.glob("replaced-by-*"))) == 1
        assert not list(workspace.glob(".agentd*"))
        current[0] = prepared(str(step))
    assert said
    assert "replaced-by-turn_0001" in said[0]


def test_the_command_leaves_a_workspace_as_it_is_though_nobody_has_worked_there(
    workspace: Path, base_dir: Path
) -> None:
    kill_a_restore(workspace, base_dir, replaced=2)
    before = {path: text for path, text in contents(workspace).items() if not path.startswith(".agentd")}
    command = [sys.executable, "-m", "agentd_snapshots", "abandon", str(workspace)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "replaced-by-turn_0001" in done.stdout
    assert before.items() <= contents(workspace).items()
    assert settle_workspace(workspace) == []

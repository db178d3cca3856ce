"""Naming, listing, deleting and comparing snapshots; what is said when something is wrong."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import anyio
import pytest
from agentd.errors import ConfigError, CorruptSnapshotError, SnapshotError, UnknownSnapshotError
from agentd_snapshots import Diff, Snapshots, snapshots as module, staging as staging_module
from snapshot_trees import describe, write


@pytest.fixture
def snapshots(workspace: Path, base_dir: Path) -> Snapshots:
    write(workspace, {"file": "1", "folder/other": "1"})
    return Snapshots(workspace, base_dir)


# --- names ------------------------------------------------------------------------------------------------


def test_a_snapshot_is_found_by_id_label_and_turn_also_by_a_new_process(snapshots: Snapshots) -> None:
    workspace, base = snapshots.workspace_dir, snapshots.store.folder.parent
    first = snapshots.snapshot("before")
    write(workspace, {"file": "2"})
    second = snapshots.snapshot(turn=7)
    third = snapshots.snapshot("7")
    assert [(s.id, s.label, s.turn) for s in snapshots.list_snapshots()] == [
        ("turn_0001", "before", 1),
        ("turn_0007", None, 7),
        ("turn_0008", "7", 8),
    ]
    for name in ("turn_0001", "before", 1, "1", first, "turn_0001_before"):
        assert snapshots.find(name) == first
    assert snapshots.find(7) == second
    assert snapshots.find("7") == third  # labels go before turns
    code = (
        "import sys; from agentd_snapshots import Snapshots\n"
        "s = Snapshots(sys.argv[1], sys.argv[2]); s.restore('before'); print(len(s.list_snapshots()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(workspace), str(base)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "3\n"
    assert (workspace / "file").read_text() == "1"


def test_the_newest_of_several_snapshots_with_one_label_or_turn_counts(snapshots: Snapshots) -> None:
    for number in range(3):
        write(snapshots.workspace_dir, {"file": f"{number}"})
        last = snapshots.snapshot("again", turn=5)
    assert last.id == "turn_0005_3"
    assert snapshots.find("again") == snapshots.find(5) == last
    assert snapshots.find("turn_0005").id == "turn_0005"


@pytest.mark.parametrize("wanted", ["befor", 99, "99", "turn_0099", "", None, True, 1.5, "../turn_0001"])
def test_an_unknown_name_is_an_error_that_lists_what_there_is(snapshots: Snapshots, wanted: object) -> None:
    snapshots.snapshot("before")
    with pytest.raises(UnknownSnapshotError) as caught:
        snapshots.restore(wanted)  # type: ignore[arg-type]
    assert "there are: 'turn_0001', 'before'" in str(caught.value)
    if wanted == "befor":
        assert "did you mean 'before'?" in str(caught.value)
    assert isinstance(caught.value, LookupError)


@pytest.mark.parametrize("label", ["x/../../evil", "../../evil", "/etc/passwd", "..", "~", "a b", "ü"])
def test_a_label_is_a_name_and_no_path(snapshots: Snapshots, tmp_path: Path, label: str) -> None:
    before = {path for path in tmp_path.rglob("*") if "base" not in path.parts[len(tmp_path.parts) :]}
    snapshots.snapshot(label)
    write(snapshots.workspace_dir, {"file": "2"})
    snapshots.restore(label)
    assert (snapshots.workspace_dir / "file").read_text() == "1"
    after = {path for path in tmp_path.rglob("*") if "base" not in path.parts[len(tmp_path.parts) :]}
    assert after == before
    assert not [path for path in (tmp_path / "base").rglob("*") if "evil" in path.name]


@pytest.mark.parametrize("label", ["", "  ", "a\nb", "a\0b", "turn_0003", "x" * 201, "\udcff", 3, b"x"])
def test_a_label_that_would_confuse_is_refused(snapshots: Snapshots, label: object) -> None:
    with pytest.raises(ConfigError, match=r"^label "):
        snapshots.snapshot(label)  # type: ignore[arg-type]
    assert snapshots.list_snapshots() == []


@pytest.mark.parametrize("turn", [-1, True, 1.0, "1"])
def test_a_turn_is_a_whole_number(snapshots: Snapshots, turn: object) -> None:
    with pytest.raises(ConfigError, match=r"^turn "):
        snapshots.snapshot(turn=turn)  # type: ignore[arg-type]


def test_an_id_is_not_given_again_after_the_newest_snapshot_was_deleted(snapshots: Snapshots) -> None:
    snapshots.snapshot()
    snapshots.delete_snapshot(snapshots.snapshot())
    assert snapshots.snapshot().id == "turn_0003"


# --- comparing --------------------------------------------------------------------------------------------


def test_a_diff_says_what_kind_of_change_each_path_has_seen(snapshots: Snapshots) -> None:
    workspace = snapshots.workspace_dir
    write(workspace, {"mode": "", "gone/a/b": "", "becomes-folder": "", "becomes-link": "x"})
    (workspace / "link").symlink_to("a")
    (workspace / "becomes-file").mkdir()
    write(workspace, {"becomes-file/in": ""})
    first = snapshots.snapshot()
    write(workspace, {"file": "2", "new/x/y": "", "becomes-folder": None})
    write(
        workspace, {"becomes-folder/in": "", "gone/a/b": None, "becomes-file/in": None, "becomes-link": None}
    )
    (workspace / "gone" / "a").rmdir()
    (workspace / "gone").rmdir()
    (workspace / "becomes-file").rmdir()
    write(workspace, {"becomes-file": ""})
    (workspace / "becomes-link").symlink_to("x")
    (workspace / "link").unlink()
    (workspace / "link").symlink_to("b")
    (workspace / "mode").chmod(0o755)
    os.utime(workspace / "folder" / "other", ns=(3, 3))  # times alone are no difference
    expected = Diff(
        added=("becomes-folder/in", "new", "new/x", "new/x/y"),
        removed=("becomes-file/in", "gone", "gone/a", "gone/a/b"),
        changed=("file", "link"),
        mode_changed=("mode",),
        type_changed=("becomes-file", "becomes-folder", "becomes-link"),
    )
    assert snapshots.diff(first) == expected
    second = snapshots.snapshot()
    assert snapshots.diff(first, second) == expected
    back = snapshots.diff(second, first)
    assert (back.added, back.removed) == (expected.removed, expected.added)
    assert not snapshots.diff(second)
    assert not snapshots.diff(second, second.id)


# --- deleting ---------------------------------------------------------------------------------------------


def test_deleting_snapshots_frees_their_space_and_harms_no_other(snapshots: Snapshots) -> None:
    workspace = snapshots.workspace_dir
    kept = []
    for number in range(5):
        write(workspace, {f"f{n}": f"{n} {number if n % 5 == number else 0}" * 5000 for n in range(20)})
        kept.append((snapshots.snapshot(), describe(workspace)))

    def size() -> int:
        return sum(path.stat().st_size for path in (snapshots.store.folder / "packs").iterdir())

    sizes = [size()]
    for number in (0, 2, 4):
        snapshots.delete_snapshot(kept[number][0])
        sizes.append(size())
        assert snapshots.verify() == []
    assert sizes == sorted(sizes, reverse=True)
    for number in (1, 3):
        snapshots.restore(kept[number][0])
        assert describe(workspace) == kept[number][1]
    for snapshot in snapshots.list_snapshots():
        snapshots.delete_snapshot(snapshot)
    assert size() == 0


def test_garbage_can_be_left_for_later(snapshots: Snapshots) -> None:
    write(snapshots.workspace_dir, {"big": "x" * 100_000})
    snapshots.delete_snapshot(snapshots.snapshot(), collect=False)
    assert snapshots.collect_garbage() > 100_000
    assert snapshots.collect_garbage() == 0


# --- another process and another thread -------------------------------------------------------------------


def test_two_processes_and_several_threads_take_turns(snapshots: Snapshots) -> None:
    workspace, base = snapshots.workspace_dir, snapshots.store.folder.parent
    code = (
        "import sys; from agentd_snapshots import Snapshots\n"
        "s = Snapshots(sys.argv[1], sys.argv[2])\n"
        "for i in range(5): s.snapshot(f'{sys.argv[3]}-{i}')"
    )
    others = [
        subprocess.Popen([sys.executable, "-c", code, str(workspace), str(base), name]) for name in "ab"
    ]
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(3):
                snapshots.snapshot()
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [other.wait(timeout=60) for other in others] == [0, 0]
    assert failures == []
    assert sorted(s.turn for s in snapshots.list_snapshots()) == list(range(1, 17))
    assert snapshots.verify() == []


def test_waiting_for_another_process_ends_with_an_error_that_names_the_lock(snapshots: Snapshots) -> None:
    hasty = Snapshots(snapshots.workspace_dir, snapshots.store.folder.parent, lock_timeout_s=0.05)
    with snapshots.store.locked(), pytest.raises(SnapshotError, match=r"another process has held .*lock"):
        hasty.snapshot()
    hasty.snapshot()


# --- the place --------------------------------------------------------------------------------------------


def test_snapshots_lie_in_the_users_state_folder_closed_to_others(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "link").symlink_to(workspace)
    snapshots = Snapshots(workspace)
    assert Snapshots(tmp_path / "link").store.folder == snapshots.store.folder
    assert snapshots.store.folder.parent == tmp_path / "state" / "agentd" / "snapshots"
    assert snapshots.store.folder.stat().st_mode & 0o777 == 0o700
    kept = snapshots.snapshot()
    assert kept.path.is_file()
    assert kept.path.stat().st_mode & 0o077 == 0


def test_a_base_folder_inside_the_workspace_is_refused(workspace: Path) -> None:
    with pytest.raises(ConfigError, match="must lie outside the workspace"):
        Snapshots(workspace, workspace / "snapshots")


def test_a_store_of_another_format_is_refused(snapshots: Snapshots) -> None:
    (snapshots.store.folder / "about.json").write_text('{"format": 99}')
    with pytest.raises(SnapshotError, match="has format 99, this agentd reads format 1"):
        Snapshots(snapshots.workspace_dir, snapshots.store.folder.parent)


def test_a_workspace_that_is_gone_is_an_error_for_a_snapshot_and_made_again_by_a_restore(
    snapshots: Snapshots,
) -> None:
    before = describe(snapshots.workspace_dir)
    kept = snapshots.snapshot()
    snapshots.workspace_dir.rename(snapshots.workspace_dir.with_name("moved"))
    with pytest.raises(SnapshotError, match="cannot be opened"):
        snapshots.snapshot()
    snapshots.restore(kept)
    assert describe(snapshots.workspace_dir) == before


def test_a_copy_of_a_snapshot_is_a_workspace_of_its_own(snapshots: Snapshots, tmp_path: Path) -> None:
    before = describe(snapshots.workspace_dir)
    kept = snapshots.snapshot()
    write(snapshots.workspace_dir, {"file": "2"})
    copy = snapshots.copy_to(kept, tmp_path / "forks" / "one")
    assert describe(copy) == before
    assert Snapshots(copy, snapshots.store.folder.parent).list_snapshots() == []
    with pytest.raises(SnapshotError, match="is not empty"):
        snapshots.copy_to(kept, copy)


# --- damage -----------------------------------------------------------------------------------------------


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def test_a_damaged_pack_is_named_and_the_workspace_stays_as_it_is(snapshots: Snapshots) -> None:
    kept = snapshots.snapshot()
    write(snapshots.workspace_dir, {"file": "2", "folder/other": "2"})
    before = describe(snapshots.workspace_dir)
    (pack,) = (snapshots.store.folder / "packs").iterdir()
    flip(pack, 8)
    with pytest.raises(CorruptSnapshotError, match=rf"cannot be restored: the pack '{pack}' is damaged"):
        snapshots.restore(kept)
    assert describe(snapshots.workspace_dir) == before
    assert not list(snapshots.workspace_dir.glob(".agentd*"))
    assert any(str(pack) in problem for problem in snapshots.verify())
    flip(pack, 8)
    snapshots.restore(kept)


def test_a_missing_or_cut_pack_is_noticed_and_stored_again_by_the_next_snapshot(snapshots: Snapshots) -> None:
    kept = snapshots.snapshot()
    (pack,) = (snapshots.store.folder / "packs").iterdir()
    pack.write_bytes(pack.read_bytes()[:-1])
    fresh = Snapshots(snapshots.workspace_dir, snapshots.store.folder.parent)
    assert fresh.verify()
    fresh.snapshot()
    write(snapshots.workspace_dir, {"file": "2"})
    fresh.restore(kept)
    assert (snapshots.workspace_dir / "file").read_text() == "1"


def test_a_damaged_manifest_is_named_and_can_be_deleted(snapshots: Snapshots) -> None:
    kept = snapshots.snapshot("label")
    other = snapshots.snapshot()
    for offset in (70, kept.path.stat().st_size - 1):
        flip(kept.path, offset)
        with pytest.raises(CorruptSnapshotError, match="turn_0001"):
            snapshots.restore("turn_0001")
        assert any("turn_0001" in problem for problem in snapshots.verify())
        flip(kept.path, offset)
    flip(kept.path, 90)
    assert snapshots.list_snapshots() == [other]
    assert snapshots.collect_garbage() == 0
    assert snapshots.delete_snapshot("turn_0001") is None
    assert snapshots.verify() == []


def test_a_damaged_stat_cache_costs_time_and_nothing_else(snapshots: Snapshots) -> None:
    snapshots.snapshot()
    flip(snapshots.store.folder / "cache", 50)
    fresh = Snapshots(snapshots.workspace_dir, snapshots.store.folder.parent)
    assert fresh.snapshot().stats.read_files == 2


# --- asynchronous -----------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_the_asynchronous_twins_do_the_same(snapshots: Snapshots, tmp_path: Path) -> None:
    kept = await snapshots.asnapshot("label", turn=3)
    write(snapshots.workspace_dir, {"file": "2"})
    assert (await snapshots.adiff("label")).changed == ("file",)
    assert await snapshots.arestore(3) == kept
    assert await snapshots.alist_snapshots() == [kept]
    assert describe(await snapshots.acopy_to(kept, tmp_path / "copy")) == describe(snapshots.workspace_dir)
    with pytest.raises(UnknownSnapshotError):
        await snapshots.arestore("nothing")
    await snapshots.adelete_snapshot(kept)
    assert await snapshots.acollect_garbage() == 0
    assert snapshots.list_snapshots() == []


def until_stopped(poll: Callable[[], None]) -> NoReturn:
    """Go on until the caller's cancellation arrives."""
    for _ in range(10_000):
        poll()
        time.sleep(0.001)
    raise AssertionError("nobody stopped it")


@pytest.mark.anyio
async def test_a_cancelled_snapshot_stops_and_leaves_nothing(
    snapshots: Snapshots, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = threading.Event()

    class StuckReader(module.ContentReader):
        def read(self, fd: int, size: int, *, holes: bool = False) -> object:  # type: ignore[override]
            reading.set()
            assert self._poll is not None
            return until_stopped(self._poll)

    monkeypatch.setattr(module, "ContentReader", StuckReader)
    async with anyio.create_task_group() as group:
        group.start_soon(snapshots.asnapshot)
        await anyio.to_thread.run_sync(reading.wait, 10)
        group.cancel_scope.cancel()
    assert snapshots.list_snapshots() == []
    assert os.listdir(snapshots.store.folder / "packs") == os.listdir(snapshots.store.folder / "tmp") == []


@pytest.mark.anyio
async def test_a_cancelled_restore_leaves_the_workspace_as_it_was(
    snapshots: Snapshots, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = snapshots.snapshot()
    write(snapshots.workspace_dir, {"file": "2", "folder/other": "2", "new": "2"})
    before = describe(snapshots.workspace_dir)
    staging = threading.Event()

    def stuck(self: staging_module.Staging, item: object, name: bytes) -> bytes:
        staging.set()
        until_stopped(self._poll)

    monkeypatch.setattr(staging_module.Staging, "new", stuck)
    async with anyio.create_task_group() as group:
        group.start_soon(snapshots.arestore, kept)
        await anyio.to_thread.run_sync(staging.wait, 10)
        group.cancel_scope.cancel()
    assert describe(snapshots.workspace_dir) == before
    assert not (snapshots.store.folder / "journal").exists()
    monkeypatch.undo()
    await snapshots.arestore(kept)
    assert (snapshots.workspace_dir / "file").read_text() == "1"


def test_a_time_out_of_asyncio_waits_for_the_thread_as_well(
    snapshots: Snapshots, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = []

    class StuckReader(module.ContentReader):
        def read(self, fd: int, size: int, *, holes: bool = False) -> object:  # type: ignore[override]
            assert self._poll is not None
            try:
                return until_stopped(self._poll)
            finally:
                time.sleep(0.02)
                ended.append(True)

    monkeypatch.setattr(module, "ContentReader", StuckReader)

    async def timed() -> None:
        try:
            await asyncio.wait_for(snapshots.asnapshot(), 0.05)
        except TimeoutError:
            assert ended == [True]
            raise

    with pytest.raises(TimeoutError):
        asyncio.run(timed())
    assert snapshots.list_snapshots() == []


@pytest.mark.anyio
async def test_a_cancelled_wait_for_the_lock_ends_at_once(snapshots: Snapshots) -> None:
    with snapshots.store.locked(), anyio.move_on_after(0.05) as scope:
        await snapshots.asnapshot()
    assert scope.cancelled_caught
    assert snapshots.list_snapshots() == []

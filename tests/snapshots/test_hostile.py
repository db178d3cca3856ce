"""A workspace that works against us while it is read and written."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from agentd.errors import SnapshotError
from agentd_snapshots import Snapshots, scan as scan_module
from snapshot_trees import describe, write

SECRET = b"the secret outside"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    write(folder, {"a": SECRET, "sub/a": SECRET})
    return folder


@contextlib.contextmanager
def meanwhile(step: Callable[[], None]) -> Iterator[None]:
    """Repeat a step in a thread, as fast as it can."""
    stop = threading.Event()
    failures: list[BaseException] = []

    def work() -> None:
        while not stop.is_set():
            try:
                step()
            except OSError:
                pass
            except BaseException as exc:
                failures.append(exc)
                return

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    assert failures == []


def swapper(workspace: Path, outside: Path) -> Callable[[], None]:
    """Let a folder of the workspace be a symlink to a folder outside half of the time."""

    def swap() -> None:
        os.rename(workspace / "sub", workspace / "aside")
        os.symlink(outside, workspace / "sub")
        os.unlink(workspace / "sub")
        os.rename(workspace / "aside", workspace / "sub")

    return swap


def test_a_folder_swapped_for_a_symlink_never_leads_a_snapshot_outside(
    workspace: Path, base_dir: Path, outside: Path
) -> None:
    write(workspace, {f"sub/{name}": "inside" for name in ("a", "b", "sub/a", "sub/b")})
    snapshots = Snapshots(workspace, base_dir)
    with meanwhile(swapper(workspace, outside)):
        for _ in range(100):
            snapshots.snapshot()
    packs = b"".join(path.read_bytes() for path in base_dir.rglob("*.pack"))
    assert SECRET not in packs
    assert snapshots.verify() == []


def test_a_folder_swapped_for_a_symlink_never_leads_a_restore_outside(
    workspace: Path, base_dir: Path, outside: Path
) -> None:
    write(workspace, {f"sub/{name}": "1" for name in ("a", "b", "sub/a", "sub/b")})
    snapshots = Snapshots(workspace, base_dir)
    kept = [snapshots.snapshot()]
    write(workspace, {"sub/a": "2", "sub/b": None, "sub/sub/a": "2", "sub/c/d": "2"})
    kept.append(snapshots.snapshot())
    before = describe(outside)
    done = 0
    with meanwhile(swapper(workspace, outside)):
        for number in range(60):
            with contextlib.suppress(SnapshotError):  # "something kept changing the workspace"
                snapshots.restore(kept[number % 2])
                done += 1
    assert describe(outside) == before
    for one in (workspace / "sub", workspace / "aside"):
        if one.is_symlink():
            one.unlink()
    snapshots.finish_restore()  # of one that was given up, if any
    snapshots.restore(kept[0])
    assert not snapshots.diff(kept[0])
    assert not list(workspace.glob(".agentd*"))


@contextlib.contextmanager
def swapped_at_open(workspace: Path, outside: Path, number: int) -> Iterator[None]:
    """Put a symlink to a folder outside in the place of `sub` right before it is opened for the Nth time."""
    real, left = os.open, [number]

    def opened(path: object, flags: int, *args: object, **kwargs: object) -> int:
        if path == b"sub":
            left[0] -= 1
            if left[0] == 0:
                os.rename(workspace / "sub", workspace / "aside")
                os.symlink(outside, workspace / "sub")
        return real(path, flags, *args, **kwargs)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "open", opened)
        yield
    assert left[0] <= 0, "it was not opened that often"


def test_a_symlink_that_comes_right_before_a_folder_is_read_is_not_followed(
    workspace: Path, base_dir: Path, outside: Path
) -> None:
    write(workspace, {"sub/a": "inside"})
    snapshots = Snapshots(workspace, base_dir)
    with swapped_at_open(workspace, outside, 1):
        kept = snapshots.snapshot()
    assert kept.stats.files == 0
    assert SECRET not in b"".join(path.read_bytes() for path in base_dir.rglob("*.pack"))


@pytest.mark.parametrize("number", [1, 2])
def test_a_symlink_that_comes_right_before_a_folder_is_written_is_not_followed(
    workspace: Path, base_dir: Path, outside: Path, number: int
) -> None:
    write(workspace, {"sub/a": "1"})
    snapshots = Snapshots(workspace, base_dir)
    kept = snapshots.snapshot()
    write(workspace, {"sub/a": "2", "sub/b": "2"})
    before = describe(outside)
    with swapped_at_open(workspace, outside, number):
        snapshots.restore(kept)  # at the second attempt
    assert describe(outside) == before
    assert not (workspace / "sub").is_symlink()
    assert not snapshots.diff(kept)


def test_links_that_lie_where_files_shall_go_are_replaced_and_not_followed(
    workspace: Path, base_dir: Path, outside: Path
) -> None:
    write(workspace, {"a": "1", "sub/a": "1", "sub/sub/a": "1"})
    snapshots = Snapshots(workspace, base_dir)
    kept, inside = snapshots.snapshot(), describe(workspace)
    before = describe(outside)
    (workspace / "a").unlink()
    (workspace / "a").symlink_to(outside / "a")
    shutil.rmtree(workspace / "sub")
    (workspace / "sub").symlink_to(outside)
    (workspace / ".agentd").symlink_to(outside)
    snapshots.restore(kept)
    (workspace / ".agentd").unlink()
    assert (workspace / "sub" / "a").read_text() == "1"
    assert not (workspace / "sub").is_symlink()
    assert describe(outside) == before
    snapshots.restore(kept)  # taking the link away has changed the folder's time
    assert describe(workspace) == inside


def test_a_fifo_that_takes_the_place_of_a_file_does_not_hold_up_a_snapshot(
    workspace: Path, base_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(workspace, {"trap": "x", "file": "x"})
    real = os.open

    def swapped(path: object, flags: int, *args: object, **kwargs: object) -> int:
        if path == b"trap":
            (workspace / "trap").unlink()
            os.mkfifo(workspace / "trap")
            monkeypatch.undo()
        return real(path, flags, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(scan_module.os, "open", swapped)
    kept = Snapshots(workspace, base_dir).snapshot()
    assert [(left.path, left.reason) for left in kept.stats.left_out] == [("trap", "fifo")]
    assert kept.stats.files == 1


def test_a_file_that_never_stops_growing_does_not_hold_up_a_snapshot(workspace: Path, base_dir: Path) -> None:
    path = workspace / "growing"
    path.write_bytes(b"x" * 3_000_000)
    snapshots = Snapshots(workspace, base_dir)
    with path.open("ab", buffering=0) as file, meanwhile(lambda: file.write(b"x" * 1000) and None):
        kept = snapshots.snapshot()
    assert kept.stats.files == 1
    assert {left.reason for left in kept.stats.left_out} <= {"changing"}
    size = kept.stats.bytes
    snapshots.restore(kept)
    assert path.read_bytes() == b"x" * size


def test_names_that_come_and_go_do_not_stop_a_snapshot(workspace: Path, base_dir: Path) -> None:
    write(workspace, {f"{i}/f": "x" for i in range(30)})

    def churn() -> None:
        for i in range(30):
            os.rename(workspace / f"{i}", workspace / f"moved{i}")
        for i in range(30):
            os.rename(workspace / f"moved{i}", workspace / f"{i}")

    snapshots = Snapshots(workspace, base_dir)
    with meanwhile(churn):
        for _ in range(20):
            snapshots.snapshot()
    assert snapshots.verify() == []


def test_a_device_is_left_out_and_not_opened(workspace: Path, base_dir: Path) -> None:
    try:
        os.mknod(workspace / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only root may make a device: run the tests as root too")
    kept = Snapshots(workspace, base_dir).snapshot()
    assert [(left.path, left.reason) for left in kept.stats.left_out] == [("null", "device")]


def test_a_forged_time_does_not_hide_a_change(
    workspace: Path, base_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_module, "RACY_NS", -(10**18))  # so that a file of this moment is trusted at all
    path = workspace / "file"
    path.write_text("1")
    snapshots = Snapshots(workspace, base_dir)
    first = snapshots.snapshot()
    assert snapshots.snapshot().stats.read_files == 0
    before = path.stat()
    while path.stat().st_ctime_ns == before.st_ctime_ns:  # the kernel's clock goes in steps
        path.write_text("2")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert snapshots.diff(first).changed == ("file",)
    snapshots.restore(first)
    assert path.read_text() == "1"


def test_a_file_that_was_just_written_is_read_again_next_time(
    workspace: Path, base_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_module, "RACY_NS", 10**18)
    (workspace / "file").write_text("1")
    snapshots = Snapshots(workspace, base_dir)
    assert [snapshots.snapshot().stats.read_files for _ in range(3)] == [1, 1, 1]
    monkeypatch.setattr(scan_module, "RACY_NS", -(10**18))
    assert [snapshots.snapshot().stats.read_files for _ in range(3)] == [1, 0, 0]

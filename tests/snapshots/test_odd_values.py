"""Times, flags and stored values that no ordinary program makes: a snapshot, or an error of ours."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from agentd.errors import CorruptSnapshotError, SnapshotError
from agentd_snapshots import Snapshots
from agentd_snapshots.digest import digest_of
from agentd_snapshots.store import _HEADER, MAGIC
from snapshot_trees import describe, write

FAR = [2**63, 2**64 + 5, -(2**63) - 1, 2**70, -(2**70)]


@pytest.fixture
def far_away(tmp_path: Path) -> Path:
    """A folder on a file system that takes times of any size."""
    return Path("/dev/shm") if os.path.isdir("/dev/shm") else tmp_path


@pytest.mark.parametrize("ns", FAR)
def test_a_time_that_no_manifest_holds_becomes_the_nearest_one(
    far_away: Path, base_dir: Path, tmp_path: Path, ns: int
) -> None:
    workspace = far_away / f"agentd-{os.getpid()}-{abs(ns)}"
    write(workspace, {"file": "1", "folder/in": "1"})
    try:
        for path in (workspace / "file", workspace / "folder", workspace):
            try:
                os.utime(path, ns=(ns, ns))
            except (OverflowError, OSError):
                pytest.skip("this system has no such times: run it where time_t has 64 bits")
        if workspace.joinpath("file").stat().st_mtime_ns not in FAR:
            pytest.skip(f"the file system of {far_away} keeps no such times: mount a tmpfs at /dev/shm")
        snapshots = Snapshots(workspace, base_dir)
        kept = snapshots.snapshot()
        assert not snapshots.diff(kept)
        write(workspace, {"file": "2", "folder/in": None})
        snapshots.restore(kept)
        assert (workspace / "file").read_text() == "1"
        assert abs((workspace / "file").stat().st_mtime_ns) == 2**63 - 1
        again = describe(workspace)
        snapshots.restore(kept)
        assert describe(workspace) == again
    finally:
        shutil.rmtree(workspace)


@pytest.mark.parametrize("flag", ["a", "i"])
def test_a_folder_that_takes_nothing_back_is_refused_before_anything_changes(
    workspace: Path, base_dir: Path, flag: str
) -> None:
    write(workspace, {"a": "1", "logs/one": "1", "z": "1"})
    snapshots = Snapshots(workspace, base_dir)
    kept = snapshots.snapshot()
    write(workspace, {"a": "2", "logs/one": "2", "logs/two": "2", "z": None})
    chattr = shutil.which("chattr")
    if chattr is None or subprocess.run([chattr, f"+{flag}", workspace / "logs"]).returncode:
        pytest.skip("needs root, chattr (e2fsprogs) and a file system with flags, such as ext4")
    try:
        before = describe(workspace)
        with pytest.raises(SnapshotError, match="'logs' is append-only or immutable"):
            snapshots.restore(kept)
        assert describe(workspace) == before
    finally:
        subprocess.run([chattr, f"-{flag}", workspace / "logs"], check=True)
    snapshots.restore(kept)
    assert not snapshots.diff(kept)


@pytest.mark.parametrize("flag", ["a", "i"])
def test_a_file_that_cannot_be_moved_has_the_restore_taken_back(
    workspace: Path, base_dir: Path, flag: str
) -> None:
    write(workspace, {"a": "1", "log": "1", "z": "1"})
    snapshots = Snapshots(workspace, base_dir)
    kept = snapshots.snapshot()
    write(workspace, {"a": "2", "log": "2", "z": None})
    chattr = shutil.which("chattr")
    if chattr is None or subprocess.run([chattr, f"+{flag}", workspace / "log"]).returncode:
        pytest.skip("needs root, chattr (e2fsprogs) and a file system with flags, such as ext4")
    try:
        before = describe(workspace)
        with pytest.raises(SnapshotError) as caught:
            snapshots.restore(kept)
        assert caught.value.errno == errno.EPERM
        assert describe(workspace) == before
    finally:
        subprocess.run([chattr, f"-{flag}", workspace / "log"], check=True)
    snapshots.restore(kept)
    assert not snapshots.diff(kept)


@pytest.mark.parametrize("content", [b"", b"x\n", b"3\n", b"1 2 3\n", b"\xff\n", b"9" * 5_000])
def test_a_damaged_counter_is_counted_anew(workspace: Path, base_dir: Path, content: bytes) -> None:
    snapshots = Snapshots(workspace, base_dir)
    write(workspace, {"file": "1"})
    snapshots.snapshot("label")
    (snapshots.store.folder / "counter").write_bytes(content)
    newer = snapshots.snapshot("label")
    assert newer.id == "turn_0002"
    assert snapshots.find("label") == newer


def test_the_newer_snapshot_is_the_later_one_whatever_the_clock_says(
    workspace: Path, base_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshots = Snapshots(workspace, base_dir)
    made = []
    for now in (2_000_000_000.0, 1_000_000_000.0, 1_500_000_000.0):
        monkeypatch.setattr("time.time", lambda now=now: now)
        write(workspace, {"file": str(now)})
        made.append(snapshots.snapshot("label", turn=7))
    again = Snapshots(workspace, base_dir)
    assert again.list_snapshots() == made
    assert again.find("label") == made[-1]
    again.restore("label")
    assert (workspace / "file").read_text() == "1500000000.0"


@pytest.mark.parametrize(
    "description",
    [
        b"\x90",
        b"\x80",
        b"\x84\xa5label\x01\xa4turn\x01\xa9timestamp\x01\xa5stats\x80",
        b"\x84\xa5label\xc0\xa4turn\x01\xa9timestamp\x01\xa5stats\x81\xa1x\x01",
        b"\x84\xa5label\xc0\xa4turn\x01\xa9timestamp\x01\xa5stats\x81\xa8left_out\x91\x01",
        b"\xc1",
    ],
)
def test_a_description_of_another_shape_is_damage(
    workspace: Path, base_dir: Path, description: bytes
) -> None:
    snapshots = Snapshots(workspace, base_dir)
    kept = snapshots.snapshot()
    data = kept.path.read_bytes()
    tree = data[-len(snapshots.store.tree(kept.id).encode()) :]
    header = _HEADER.pack(MAGIC, digest_of(description), digest_of(tree), len(description))
    kept.path.write_bytes(header + description + tree)
    with pytest.raises(CorruptSnapshotError, match="is damaged"):
        snapshots.find(kept.id)
    assert snapshots.list_snapshots() == []
    assert len(snapshots.verify()) == 1

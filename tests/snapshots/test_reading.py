"""Contents of files are read from a snapshot."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from agentd.errors import UnknownSnapshotError
from agentd_snapshots import Snapshots
from agentd_snapshots.reading import read_files
from hypothesis import HealthCheck, given, settings, strategies as st


def kept(tmp_path: Path) -> tuple[Path, Snapshots]:
    work = tmp_path / "work"
    work.mkdir()
    return work, Snapshots(work, tmp_path / "store")


def test_files_are_read_as_they_were_also_when_they_are_gone(tmp_path: Path) -> None:
    work, snapshots = kept(tmp_path)
    (work / "a" / "b").mkdir(parents=True)
    (work / "top").write_bytes(b"1")
    (work / "a" / "b" / "deep").write_bytes(b"2")
    one = snapshots.snapshot()
    (work / "top").write_bytes(b"3")
    (work / "a" / "b" / "deep").unlink()
    two = snapshots.snapshot()
    paths = ["top", "a/b/deep", "a/b", "missing", "a/missing/deep", "top/deep"]
    assert read_files(snapshots, one, paths, max_bytes=10) == {"top": b"1", "a/b/deep": b"2"}
    assert read_files(snapshots, two.id, paths, max_bytes=10) == {"top": b"3"}


def test_what_is_larger_than_asked_for_and_links_are_left_out(tmp_path: Path) -> None:
    work, snapshots = kept(tmp_path)
    (work / "small").write_bytes(b"12")
    (work / "large").write_bytes(b"123")
    os.symlink("small", work / "link")
    one = snapshots.snapshot()
    assert read_files(snapshots, one, ["small", "large", "link"], max_bytes=2) == {"small": b"12"}


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pieces=st.lists(
        st.sampled_from([b"", bytes(1 << 20), b"x" * 100, bytes(5000), b"y" * (1 << 20)]), max_size=4
    )
)
def test_zeros_and_many_chunks_come_back_byte_by_byte(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes]
) -> None:
    work, snapshots = kept(tmp_path_factory.mktemp("zeros"))
    data = b"".join(pieces)
    (work / "file").write_bytes(data)
    one = snapshots.snapshot()
    assert read_files(snapshots, one, ["file"], max_bytes=len(data)) == {"file": data}


def test_an_unknown_snapshot_is_an_error(tmp_path: Path) -> None:
    _, snapshots = kept(tmp_path)
    with pytest.raises(UnknownSnapshotError):
        read_files(snapshots, "nonsense", ["file"], max_bytes=1)

"""Snapshots of a workspace of 10,000 files of 4 KiB in 100 folders, and of one file of 1 GiB.

Ours: `Snapshots.snapshot` and `restore`.
Theirs: the snapshot manager of its executors, which copies the whole folder, and removes and copies it back, whatever
has changed: it is measured with 10 changed files.
Floor: `cp -a` of the folder for everything that writes it all, a walk with `lstat` of every file where nothing or
little has changed, and hashing the large file with BLAKE3.

What makes many files, theirs and the floor, depends on the state of ext4: it looks for a free inode past all that were
deleted in the last minutes (`recently_deleted` in the kernel), which can make each file ten times dearer. Compare runs
with `TMPDIR` on a tmpfs, which has no such search.
"""

from __future__ import annotations

import os
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.kit import memory_mib
from benchmarks.line import Figures, Line, Row

LINE = Line(
    name="snapshots",
    rows=(
        Row(key="first_ms", title="first snapshot, 10,000 files of 4 KiB", unit="ms", ratio=6),
        Row(key="same_ms", title="second snapshot of them, nothing changed", unit="ms"),
        Row(key="one_ms", title="second snapshot of them, 1 changed", unit="ms"),
        Row(key="ten_ms", title="second snapshot of them, 10 changed", unit="ms", ratio=10),
        Row(key="back_none_ms", title="restore of 10,000 files, nothing changed", unit="ms", ratio=20),
        Row(key="back_one_ms", title="restore of 10,000 files, 1 changed", unit="ms", ratio=20),
        Row(key="back_ten_ms", title="restore of 10,000 files, 10 changed", unit="ms", ratio=20),
        Row(key="back_all_ms", title="restore of 10,000 files, all changed", unit="ms"),
        Row(key="back_empty_ms", title="restore of 10,000 files, all removed", unit="ms"),
        Row(
            key="big_ms",
            title="second snapshot of a 1 GiB file changed in one place; floor: hashing it",
            unit="ms",
            floor=1.5,
        ),
        Row(key="big_mib", title="  the host's peak memory (RSS) for snapshots", unit="MiB", limit=61.0),
    ),
    rounds=1,
    timeout_s=1800.0,
)
FOLDERS, FILES, SIZE = 100, 100, 4096
GIB = 1 << 30


def _fill(root: Path) -> None:
    for folder in range(FOLDERS):
        (root / f"{folder:02}").mkdir(parents=True)
        for name in range(FILES):
            (root / f"{folder:02}" / f"{name:02}.txt").write_bytes(os.urandom(SIZE // 2).hex().encode())


def _change(root: Path, count: int, mark: int) -> None:
    """Change the first bytes of so many files, spread over the folders."""
    for number in range(count):
        path = root / f"{number % FOLDERS:02}" / f"{number // FOLDERS:02}.txt"
        with path.open("r+b") as file:
            file.write(b"%08d" % mark)


def _time_ms(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return (time.perf_counter() - begin) * 1000


def _repeated(call: Callable[[], object], prepare: Callable[[int], object], *, count: int) -> float:
    """The median of a call, each after a preparation that is not measured."""
    times = []
    for number in range(count):
        prepare(number)
        times.append(_time_ms(call))
    return statistics.median(times)


def ours(quick: bool) -> Figures:
    """In a fresh process, so that the first snapshot includes its imports."""
    root, count = Path("workspace"), 3 if quick else 7
    _fill(root)

    def first() -> None:
        from agentd_snapshots import Snapshots

        Snapshots(root, "base").snapshot("first")

    figures: Figures = {"first_ms": _time_ms(first)}
    from agentd_snapshots import Snapshots

    snapshots = Snapshots(root, "base")
    _repeated(snapshots.snapshot, lambda _: None, count=2)  # files written just before are read again
    for key, changed in (("same_ms", 0), ("one_ms", 1), ("ten_ms", 10)):
        figures[key] = _repeated(snapshots.snapshot, lambda n, c=changed: _change(root, c, n), count=count)

    def back() -> None:
        snapshots.restore("first")

    back()
    for key, changed in (("back_none_ms", 0), ("back_one_ms", 1), ("back_ten_ms", 10)):
        figures[key] = _repeated(back, lambda n, c=changed: _change(root, c, n), count=count)
    figures["back_all_ms"] = _repeated(back, lambda n: _change(root, FOLDERS * FILES, n), count=1)
    figures["back_empty_ms"] = _repeated(back, lambda _: shutil.rmtree(root), count=1)
    assert not snapshots.diff("first")
    figures |= _big(quick)
    return figures


def _big(quick: bool) -> Figures:
    from agentd_snapshots import Snapshots

    root = Path("large")
    _make_large(root)
    snapshots = Snapshots(root, "base")
    snapshots.snapshot()

    def change(number: int) -> None:
        with (root / "file").open("r+b") as file:
            file.seek(GIB // 2)
            file.write(b"%08d" % number)

    time_ms = _repeated(snapshots.snapshot, change, count=2 if quick else 5)
    return {"big_ms": time_ms, "big_mib": memory_mib("VmHWM")}


def _make_large(root: Path) -> None:
    root.mkdir()
    block = os.urandom(1 << 20)
    with (root / "file").open("wb") as file:
        for number in range(1024):
            file.write(number.to_bytes(8, "big") + block[8:])


def theirs(quick: bool) -> Figures:
    """Its `SnapshotManager`, which each of its executors with snapshots uses in this way."""
    from agentd.sandbox_runtime_executor import SnapshotManager  # type: ignore[import-not-found]

    root, count = Path("workspace").resolve(), 1 if quick else 2
    _fill(root)
    manager = SnapshotManager(Path("base").resolve(), workspace_dir=root)
    figures: Figures = {"first_ms": _time_ms(lambda: manager.create_snapshot("first"))}
    again = _repeated(manager.create_snapshot, lambda n: _change(root, 10, n), count=count)

    def back() -> None:
        assert manager.restore_snapshot("turn_0001_first")

    restored = _repeated(back, lambda n: _change(root, 10, n), count=count)
    figures |= dict.fromkeys(("same_ms", "one_ms", "ten_ms"), again)
    figures |= dict.fromkeys(("back_none_ms", "back_one_ms", "back_ten_ms", "back_all_ms"), restored)
    return figures


def floor(quick: bool) -> Figures:
    """What copying, walking and hashing cost by themselves."""
    import subprocess

    from blake3 import blake3

    root = Path("workspace")
    _fill(root)

    def copy() -> None:
        shutil.rmtree("copy", ignore_errors=True)

    copied = _repeated(
        lambda: subprocess.run(["cp", "-a", root, "copy"], check=True), lambda _: copy(), count=2
    )
    walked = _repeated(lambda: _walk(root), lambda _: None, count=3 if quick else 7)
    figures: Figures = dict.fromkeys(("first_ms", "back_all_ms", "back_empty_ms"), copied)
    figures |= dict.fromkeys(
        ("same_ms", "one_ms", "ten_ms", "back_none_ms", "back_one_ms", "back_ten_ms"), walked
    )
    _make_large(Path("large"))
    buffer = bytearray(1 << 20)
    view = memoryview(buffer)

    def hash_it() -> None:
        digest = blake3()
        with open("large/file", "rb", buffering=0) as file:
            while count := file.readinto(buffer):
                digest.update(view[:count])

    figures["big_ms"] = _repeated(hash_it, lambda _: None, count=2 if quick else 5)
    return figures


def _walk(root: Path) -> None:
    for folder, _, names in os.walk(root):
        for name in names:
            os.lstat(os.path.join(folder, name))

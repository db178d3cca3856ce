"""What the runner watches: the walk through the workspace, and the rules by which it ends blocks."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from agentd.errors import ConfigError
from agentd.types import Limits
from agentd_runner.host.limits import read_limits, runner_limits
from agentd_runner.inside.disk_usage import HELD_LEVELS, SPARE_BYTES, DiskMeter, DiskUse, DiskWalk
from agentd_testing.strategies import Tree, trees, write_tree
from hypothesis import given

MIB = 1 << 20
TICK_S = 0.02
"""Longer than a tick of the clock for files."""


def use_of(*roots: Path) -> tuple[int, int]:
    walk = DiskWalk({str(root): (0, 0) for root in roots})
    while not walk.advance(0.001):
        pass
    return walk.use.bytes, walk.use.inodes


def fill(path: Path, size: int) -> None:
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)


@given(trees())
def test_a_walk_counts_what_stat_says_of_each_entry_once(tree: Tree) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_tree(Path(folder), tree)
        there = {}
        for where, folders, files in os.walk(folder):
            for name in folders + files:
                found = os.lstat(os.path.join(where, name))
                there[found.st_ino] = found.st_blocks * 512
        assert use_of(Path(folder)) == (sum(there.values()), len(there))


def test_links_are_counted_once_and_holes_not_at_all(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    fill(tmp_path / "one", MIB)
    for number in range(10):
        os.link(tmp_path / "one", tmp_path / f"link{number}")
    (tmp_path / "root").symlink_to("/")
    (tmp_path / "round").symlink_to(".")
    size, inodes = use_of(tmp_path)
    assert (MIB <= size < 2 * MIB, inodes) == (True, 4)


def test_folders_deeper_than_may_be_kept_open_are_counted_and_closed(tmp_path: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))  # of which other tests may still be closing theirs
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(HELD_LEVELS * 2):
        for name in ("a" * 200, "b"):
            os.mkdir(name, dir_fd=here)
        below = os.open("a" * 200, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    assert use_of(tmp_path)[1] == HELD_LEVELS * 4
    assert set(os.listdir("/proc/self/fd")) <= before


def test_a_walk_goes_on_where_a_tree_changes_under_it_and_leads_nowhere_else(tmp_path: Path) -> None:
    tree, outside = tmp_path / "tree", tmp_path / "outside"
    for folder in (tree / "a/b", tree / "c", outside):
        folder.mkdir(parents=True)
        for number in range(20):
            (folder / f"f{number}").touch()
    walk = DiskWalk({str(tree): (0, 0)})
    for step in range(1000):
        if walk.advance(0):  # one entry
            break
        if step == 5:
            (tree / "a").rename(outside / "a")
            (tree / "a").symlink_to(outside)
        elif step == 10:
            (tree / "c").rename(outside / "c")
            (tree / "c").symlink_to(outside)
    assert walk.use.inodes <= 3 + 40


def test_a_walk_is_cut_into_slices(tmp_path: Path) -> None:
    for number in range(50):
        (tmp_path / str(number)).touch()
    walk = DiskWalk({str(tmp_path): (0, 0)})
    slices = 1
    while not walk.advance(0):
        slices += 1
    assert slices > 50


def test_a_folder_that_is_closed_or_gone_is_left_out(tmp_path: Path) -> None:
    assert use_of(tmp_path / "gone") == (0, 0)


# --- the rules -----------------------------------------------------------------------------------


@pytest.fixture
def meter(tmp_path: Path) -> DiskMeter:
    fill(tmp_path / "before", 8 * MIB)
    time.sleep(TICK_S)
    made = DiskMeter([str(tmp_path)], {"workspace_bytes": 20 * MIB})
    made.action_begins()
    return made


def look(meter: DiskMeter, running: bool = True, fair: bool = True) -> bool:
    """Let it walk once, whatever the time is; return whether it wants an end."""
    meter.next_walk = 0.0
    while True:
        end = meter.look(running, fair)[1]
        if meter.walk is None:
            return end


def test_what_was_there_before_the_first_action_does_not_count(meter: DiskMeter, tmp_path: Path) -> None:
    fill(tmp_path / "own", 15 * MIB)
    assert not look(meter)
    assert not look(meter)
    assert meter.excess == ""


def test_what_others_write_before_the_first_walk_does_not_count(
    meter: DiskMeter, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    fill(tmp_path / "own", 15 * MIB)
    fill(tmp_path_factory.mktemp("others") / "file", 60 * MIB)
    assert not look(meter)
    assert not look(meter)
    assert meter.excess == ""


def test_what_is_added_to_a_file_before_the_first_walk_counts(meter: DiskMeter, tmp_path: Path) -> None:
    with (tmp_path / "before").open("ab") as file:
        os.posix_fallocate(file.fileno(), 8 * MIB, 24 * MIB)
    assert [look(meter) for _ in range(2)] == [False, True]


def test_what_is_added_while_the_first_walk_goes_is_not_taken_for_what_was_there(
    meter: DiskMeter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    walk_on = DiskWalk.advance
    with monkeypatch.context() as patch:
        patch.setattr(
            DiskWalk, "advance", lambda walk, s: (fill(tmp_path / "own", 24 * MIB), walk_on(walk, 1))[1]
        )
        assert not look(meter)
    assert 24 * MIB <= meter.grown.bytes < 25 * MIB


def test_what_others_remove_from_another_disk_before_the_first_walk_excuses_nobody(tmp_path: Path) -> None:
    disk, temp = tmp_path / "disk", tmp_path / "temp"
    for folder in (disk, temp):
        folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs root, to mount a small tmpfs")
    try:
        fill(tmp_path / "others", 60 * MIB)
        meter = DiskMeter([str(disk), str(temp)], {"workspace_bytes": 20 * MIB})
        meter.action_begins()
        fill(disk / "own", 24 * MIB)
        (tmp_path / "others").unlink()
        assert not look(meter)
        assert 24 * MIB <= meter.grown.bytes < 25 * MIB
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_only_the_second_walk_in_a_row_ends_an_action(meter: DiskMeter, tmp_path: Path) -> None:
    look(meter)
    fill(tmp_path / "own", 24 * MIB)
    assert not look(meter)
    assert meter.hurried(meter.disks()), "the second walk is made at once"
    assert look(meter)
    assert "the limit workspace_mib is 20" in meter.excess


def test_a_file_that_was_seen_twice_because_it_moved_ends_nothing(meter: DiskMeter, tmp_path: Path) -> None:
    look(meter)
    fill(tmp_path / "own", 24 * MIB)
    assert not look(meter)
    (tmp_path / "own").unlink()
    assert not look(meter)
    assert not meter.suspected


def test_after_an_end_what_is_left_is_tolerated_and_what_is_added_is_not(
    meter: DiskMeter, tmp_path: Path
) -> None:
    look(meter)
    fill(tmp_path / "own", 24 * MIB)
    assert (look(meter), look(meter)) == (False, True)
    fill(tmp_path / "late", 4 * MIB)  # the grace of the ended one
    assert not look(meter, fair=False)
    assert not look(meter)
    assert not look(meter)
    fill(tmp_path / "more", SPARE_BYTES + MIB)
    assert (look(meter), look(meter)) == (False, True)
    assert not look(meter)
    for name in ("own", "late", "more"):
        (tmp_path / name).unlink()
    assert not look(meter)
    fill(tmp_path / "again", 15 * MIB)
    assert (look(meter), look(meter), meter.excess) == (False, False, "")


def test_what_code_has_given_back_stays_given_back(meter: DiskMeter, tmp_path: Path) -> None:
    look(meter)
    for name in ("one", "two"):
        fill(tmp_path / name, 24 * MIB)
    assert [look(meter) for _ in range(3)] == [False, True, False]
    (tmp_path / "one").unlink()
    assert not look(meter)
    fill(tmp_path / "one", 24 * MIB)
    assert [look(meter) for _ in range(2)] == [False, True]


def test_a_nearly_full_disk_is_the_fault_of_who_has_added_more_than_is_left(
    meter: DiskMeter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look(meter)
    disk = os.statvfs_result(
        (4096, 4096, 25_600, 100, 100, 0, 0, 0, 0, 255)
    )  # 100 MiB, of which 0.4 are free
    monkeypatch.setattr(os, "statvfs", lambda path: disk)
    meter.most = DiskUse(1 << 40, 1 << 40)
    fill(tmp_path / "own", 3 * MIB)
    assert [look(meter) for _ in range(3)] == [False, False, False]
    fill(tmp_path / "more", 4 * MIB)
    assert [look(meter) for _ in range(2)] == [False, True]
    assert "the disk has only 0 MiB left" in meter.excess


def test_what_an_earlier_action_has_filled_is_not_the_fault_of_the_one_that_runs(
    meter: DiskMeter, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    look(meter)
    fill(tmp_path / "own", 24 * MIB)
    meter.action_begins()
    time.sleep(TICK_S)
    fill(tmp_path_factory.mktemp("others") / "file", 60 * MIB)  # the disk grows, by whomever
    fill(tmp_path / "little", MIB)
    assert (look(meter), look(meter), meter.is_of_others()) == (False, True, True)
    assert not look(meter)
    fill(tmp_path / "more", SPARE_BYTES + MIB)
    assert (look(meter), look(meter), meter.is_of_others()) == (False, True, False)


def test_what_others_remove_from_the_disk_meanwhile_excuses_nobody(
    meter: DiskMeter, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    others = tmp_path_factory.mktemp("others") / "file"
    fill(others, 60 * MIB)
    meter.action_begins()
    look(meter)
    time.sleep(TICK_S)
    fill(tmp_path / "own", 24 * MIB)
    others.unlink()
    assert (look(meter), look(meter), meter.is_of_others()) == (False, True, False)


def test_an_action_that_exceeds_a_limit_by_little_is_at_fault(tmp_path: Path) -> None:
    meter = DiskMeter([str(tmp_path)], {"workspace_inodes": 100})
    meter.action_begins()
    look(meter)
    time.sleep(TICK_S)
    for number in range(120):
        (tmp_path / str(number)).touch()
    assert (look(meter), look(meter), meter.is_of_others()) == (False, True, False)


def test_an_idle_session_is_not_looked_at_again(meter: DiskMeter) -> None:
    assert not look(meter, running=False)
    assert meter.look(False, True) == (float("inf"), False)


def test_without_limits_nothing_is_walked_through(tmp_path: Path) -> None:
    meter = DiskMeter([str(tmp_path)], {})
    meter.action_begins()
    look(meter)
    assert meter.grown.inodes == 0


# --- as values -----------------------------------------------------------------------------------


def test_limits_come_as_plain_data_and_are_read_strictly() -> None:
    assert read_limits({"memory_mib": 512, "workspace_mib": None}).memory_mib == 512
    assert read_limits(None) == Limits()
    for plain, words in (
        ({"memory_mib": "512"}, "limits: memory_mib: must be a whole number, got '512'"),
        ({"memory": 512}, "memory: unknown key"),
        ({"processes": 0}, r"processes: must be above 0 or None \(no limit\), got 0"),
        ({"workspace_mib": -1}, r"workspace_mib: must be above 0 or None \(no limit\), got -1"),
        (512, "limits: must be a mapping such as .*, got 512"),
    ):
        with pytest.raises(ConfigError, match=words):
            read_limits(plain)  # type: ignore[arg-type]


def test_a_lifted_limit_is_not_sent() -> None:
    names = set(runner_limits(Limits()))
    liftable = (
        "cpu_s",
        "memory_mib",
        "file_mib",
        "open_files",
        "processes",
        "workspace_mib",
        "workspace_inodes",
    )
    lifted = Limits(**dict.fromkeys(liftable))
    assert names - set(runner_limits(lifted)) == names - {"RLIMIT_CORE"}

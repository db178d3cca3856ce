"""Walks over folders that code has made as it liked."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from agentd_executor_srt.tree_walk import MAX_OPEN, TreeWalk
from unprivileged import NOBODY, run_as_nobody

# Prints what a walk finds and misses, as somebody whom modes concern; then the modes of all, opened for that.
WALK = """
import json, os, sys
from agentd_executor_srt.tree_walk import TreeWalk
root = os.open(sys.argv[1], os.O_RDONLY)
walk = TreeWalk(root)
print(json.dumps([sorted(entry.name for entry in walk), walk.missed]))
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "root"
    made.mkdir()
    return made


@pytest.fixture
def others() -> Iterator[Path]:
    """A folder that other users reach; those of pytest are closed to them."""
    with tempfile.TemporaryDirectory(prefix="agentd-nobody-") as folder:
        yield Path(folder)


def walk(root: Path) -> tuple[list[str], list[str]]:
    descriptor = os.open(root, os.O_RDONLY)
    try:
        walked = TreeWalk(descriptor)
        return [entry.name for entry in walked], walked.missed
    finally:
        os.close(descriptor)


def test_everything_is_found_once_and_links_lead_nowhere(root: Path) -> None:
    for name in ("a/b/c", "a/d", "e"):
        (root / name).mkdir(parents=True)
    (root / "a" / "file").touch()
    (root / "e" / "up").symlink_to("..")
    names, missed = walk(root)
    assert sorted(names) == ["a", "b", "c", "d", "e", "file", "up"]
    assert missed == []
    assert names.index("a") < names.index("b") < names.index("c")


def test_depth_costs_no_descriptors_and_what_comes_after_it_is_found(root: Path) -> None:
    before = os.getcwd()
    os.chdir(root)
    try:
        for number in range(5 * MAX_OPEN):
            Path(f"f{number}").touch()
            Path("zz").mkdir()  # the files of a level may come before or after what is below it
            Path("aa").mkdir()
            os.chdir("zz")
    finally:
        os.chdir(before)
    most = 0
    descriptor = os.open(root, os.O_RDONLY)
    there = set(os.listdir("/proc/self/fd"))  # of which the collector may close what other tests have left
    try:
        names = []
        for entry in TreeWalk(descriptor):
            names.append(entry.name)
            most = max(most, len(set(os.listdir("/proc/self/fd")) - there))
        assert {name for name in names if name[0] == "f"} == {f"f{number}" for number in range(5 * MAX_OPEN)}
        assert (names.count("zz"), names.count("aa")) == (5 * MAX_OPEN, 5 * MAX_OPEN)
        assert most <= MAX_OPEN + 1
    finally:
        os.close(descriptor)
        subprocess.run(["rm", "-rf", root], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make folders of somebody whom modes concern")
def test_folders_that_their_owner_may_not_enter_are_looked_into_and_closed_again(others: Path) -> None:
    modes = {"a": 0o005, "a/b": 0o000, "a/b/c": 0o600, "a/d": 0o711}
    root = others / "root"
    for name in ("", *modes):
        (root / name).mkdir()
    for name in modes:
        (root / name / f"in-{name[-1]}").touch()
    (root / "foreign").mkdir(mode=0o700)
    for path in (root, *root.rglob("*")):
        if path.name != "foreign":
            os.chown(path, NOBODY, NOBODY)
    for name, mode in reversed(modes.items()):
        (root / name).chmod(mode)
    done = run_as_nobody(WALK, str(root), home=others)
    names, missed = json.loads(done.stdout)
    assert names == ["a", "b", "c", "d", "foreign", "in-a", "in-b", "in-c", "in-d"]
    assert missed == ["foreign: Permission denied"]
    assert {name: (root / name).stat().st_mode & 0o7777 for name in modes} == modes


def test_a_folder_that_is_moved_while_it_is_looked_at_is_told(root: Path) -> None:
    deep = root.joinpath(*("d" * (2 * MAX_OPEN)))
    deep.mkdir(parents=True)
    (root / "zz").mkdir()
    descriptor = os.open(root, os.O_RDONLY)
    walked = TreeWalk(descriptor)
    for seen, _ in enumerate(walked, 1):
        if seen == 2 * MAX_OPEN:
            root.joinpath(*("d" * MAX_OPEN)).rename(root / "moved")
    os.close(descriptor)
    assert walked.missed
    assert all("moved while" in what for what in walked.missed)

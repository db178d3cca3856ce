"""`scripts/test-again`: what failed beside other tests is run once more, alone."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """
import os

def test_fine(): pass
def test_wrong(): assert 0
def test_unsteady():
    found = os.path.exists("seen")
    open("seen", "w").close()
    assert found
"""


def outcome(folder: Path, repository: Path, *names: str) -> tuple[int, str]:
    """Run these tests as `make test-all` does; return the last exit code and what was printed."""
    (folder / "scripts").mkdir(exist_ok=True)
    shutil.copy(repository / "scripts" / "test-again", folder / "scripts")
    (folder / "test_them.py").write_text(TESTS)
    chosen = [f"test_them.py::{name}" for name in names]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", *chosen]
    first = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if not first.returncode:
        return 0, first.stdout
    command = [sys.executable, "scripts/test-again", str(first.returncode)]
    again = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return again.returncode, again.stdout + again.stderr


@pytest.mark.slow
def test_what_passes_alone_is_named_and_what_fails_again_fails_the_whole(
    tmp_path: Path, repository: Path
) -> None:
    code, told = outcome(tmp_path, repository, "test_fine", "test_unsteady")
    assert code == 0
    assert "UNSTEADY, to be mended; each passes alone:\n  test_them.py::test_unsteady" in told
    (tmp_path / "seen").unlink()
    code, told = outcome(tmp_path, repository, "test_wrong", "test_unsteady")
    assert code == 1
    assert "UNSTEADY" not in told
    assert "1 failed, 1 passed" in told


@pytest.mark.slow
def test_a_run_that_did_not_come_to_its_end_and_one_with_many_failures_are_not_tried_again(
    tmp_path: Path, repository: Path
) -> None:
    code, told = outcome(tmp_path, repository, "test_that_is_not_there")
    assert (code, told) == (4, "")
    many = "".join(f"\ndef test_{number}(): assert 0\n" for number in range(6))
    (tmp_path / "test_many.py").write_text(many)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "test_many.py"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == 1
    command = [sys.executable, "scripts/test-again", "1"]
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (again.returncode, again.stdout) == (
        1,
        "test-again: 6 tests failed, and at most 5 are tried again\n",
    )

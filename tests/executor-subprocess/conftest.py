"""A subprocess executor in a temporary workspace."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from agentd_executor_subprocess.executor import SubprocessExecutor


@pytest.fixture
def executor(tmp_path: Path) -> Iterator[SubprocessExecutor]:
    with SubprocessExecutor(tmp_path / "workspace", timeout=20) as made:
        yield made


@pytest.fixture
def survivors() -> Callable[[str], list[str]]:
    """A function that lists the command lines of living processes that contain a word."""
    return _command_lines


def _command_lines(word: str) -> list[str]:
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            line = (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            state = (directory / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if word in line and state != "Z":
            found.append(line)
    return found

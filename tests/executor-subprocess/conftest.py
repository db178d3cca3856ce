"""A subprocess executor in a temporary workspace."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from agentd_executor_subprocess.executor import SubprocessExecutor
from host_processes import command_lines


@pytest.fixture
def executor(tmp_path: Path) -> Iterator[SubprocessExecutor]:
    with SubprocessExecutor(tmp_path / "workspace", timeout=20) as made:
        yield made


@pytest.fixture
def survivors() -> Callable[[str], list[str]]:
    """A function that lists the command lines of living processes that contain a word."""
    return command_lines

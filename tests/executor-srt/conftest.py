"""Executors in a real srt."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sandbox
from agentd_executor_srt.executor import SandboxRuntimeExecutor
from host_processes import command_lines


@pytest.fixture
def executor(tmp_path: Path) -> Iterator[SandboxRuntimeExecutor]:
    """One sandbox for one test."""
    with sandbox.make(tmp_path / "workspace", timeout=20) as made:
        yield made


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxRuntimeExecutor]:
    """One sandbox for the tests of a module that leave it as they found it."""
    with sandbox.make(tmp_path_factory.mktemp("shared") / "workspace", timeout=20) as made:
        yield made


@pytest.fixture
def survivors() -> Callable[[str], list[str]]:
    """A function that lists the command lines of living processes that contain a word."""
    return command_lines

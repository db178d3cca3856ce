"""Executors in the native sandbox, where this machine can run it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from agentd_executor_native.executor import NativeExecutor
from agentd_executor_native.requirements import list_requirements

__all__ = ["make", "missing", "need_native"]


def missing() -> str:
    """Say what keeps the sandbox from running here, or nothing."""
    return "; ".join(f"{needed.name}: {needed.remedy}" for needed in list_requirements() if not needed.ok)


def need_native() -> None:
    """Skip the test (fail it in CI) if the sandbox cannot run here."""
    reason = missing()
    if reason and os.environ.get("CI") == "true":
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)


def make(workspace_dir: str | Path, **options: Any) -> NativeExecutor:
    """Make an executor."""
    need_native()
    return NativeExecutor(workspace_dir, **options)

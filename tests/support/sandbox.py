"""Where the tests' srt is, and executors in it."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from agentd_executor_srt.executor import SandboxRuntimeExecutor
from places import ROOT

__all__ = ["CLI", "make", "missing", "need_srt"]

CLI = ROOT / ".cache/npm/node_modules/@anthropic-ai/sandbox-runtime/dist/cli.js"


def missing() -> str:
    """Say what keeps srt from running here, or nothing."""
    if not sys.platform.startswith("linux"):
        return "the sandbox srt is tested on Linux alone"
    if not CLI.exists():
        return "srt is not installed: it needs Node.js >= 20 with npm; then run scripts/setup"
    absent = [name for name in ("bwrap", "socat", "rg") if shutil.which(name) is None]
    if absent:
        return f"{', '.join(absent)} missing: sudo apt-get install bubblewrap socat ripgrep"
    return ""


def need_srt() -> None:
    """Skip the test (fail it in CI) if srt cannot run here."""
    reason = missing()
    if reason and os.environ.get("CI") == "true":
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)


def make(workspace_dir: str | Path | None = None, **options: Any) -> SandboxRuntimeExecutor:
    """Make an executor with the tests' srt."""
    need_srt()
    return SandboxRuntimeExecutor(workspace_dir, srt_path=CLI, **options)

"""Which sandboxes run here: each is tried once, in a process of its own, as some of what they start lasts as long."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from agentd.errors import AgentdError
from agentd.types import BashAction

__all__ = ["those_that_run", "tried"]


def those_that_run(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """Return (name, options) of subprocess, and of native and srt where they work."""
    command = [sys.executable, str(Path(__file__).with_name("trying.py")), str(folder)]
    said = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True).stdout
    return [(name, options) for name, options in json.loads(said)]


def tried(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """The same, in this process."""
    return [("subprocess", {}), *(each for each in (("native", {}), *_srt()) if _works(*each, folder))]


def _srt() -> list[tuple[str, dict[str, Any]]]:
    from sandbox import CLI, missing

    return [] if missing() else [("srt", {"srt_path": str(CLI)})]


def _works(name: str, options: dict[str, Any], folder: Path) -> bool:
    from agentd.registry import Registry

    workspace = folder / name
    workspace.mkdir(parents=True)
    try:
        executor: Any = Registry().create_executor(name, workspace, **options)
        with executor:
            return bool(executor.run_sync(BashAction(command="echo works")).output.strip() == "works")
    except (AgentdError, OSError):
        return False

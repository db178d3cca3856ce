"""The plugin `srt` of the group `agentd.executors`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentd.hookspecs import hookimpl

if TYPE_CHECKING:
    from agentd_executor_srt.executor import SandboxRuntimeExecutor

AGENTD_API = 1


@hookimpl
def agentd_create_executor(workspace_dir: Path, options: Mapping[str, Any]) -> SandboxRuntimeExecutor:
    """Options: those of `SandboxRuntimeExecutor` but the workspace."""
    from agentd_executor_srt.factory import from_options

    return from_options(workspace_dir, options)

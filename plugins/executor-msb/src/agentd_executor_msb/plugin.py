"""The plugin `msb` of the group `agentd.executors`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentd.hookspecs import hookimpl

if TYPE_CHECKING:
    from agentd_executor_msb.executor import MicrosandboxCLIExecutor

AGENTD_API = 1


@hookimpl
def agentd_create_executor(workspace_dir: Path, options: Mapping[str, Any]) -> MicrosandboxCLIExecutor:
    """Options: the keyword parameters of `MicrosandboxCLIExecutor`."""
    from agentd_executor_msb.factory import from_options

    return from_options(workspace_dir, options)

"""The plugin `msb` of the group `agentd.executors`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentd.hookspecs import hookimpl
from agentd.protocols import Requirement

if TYPE_CHECKING:
    from agentd_executor_msb.executor import MicrosandboxCLIExecutor

AGENTD_API = 1


@hookimpl
def agentd_create_executor(workspace_dir: Path, options: Mapping[str, Any]) -> MicrosandboxCLIExecutor:
    """Options: the keyword parameters of `MicrosandboxCLIExecutor`."""
    from agentd_executor_msb.factory import from_options

    return from_options(workspace_dir, options)


@hookimpl
def agentd_list_requirements() -> Sequence[Requirement]:
    """Look for hardware virtualisation and for microsandbox with its firmware. Boots nothing."""
    from agentd_executor_msb.probes import list_requirements

    return list_requirements()

"""The plugin `srt` of the group `agentd.executors`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentd.hookspecs import hookimpl
from agentd.protocols import Requirement

if TYPE_CHECKING:
    from agentd_executor_srt.executor import SandboxRuntimeExecutor

AGENTD_API = 1


@hookimpl
def agentd_create_executor(workspace_dir: Path, options: Mapping[str, Any]) -> SandboxRuntimeExecutor:
    """Options: those of `SandboxRuntimeExecutor` but the workspace."""
    from agentd_executor_srt.factory import from_options

    return from_options(workspace_dir, options)


@hookimpl
def agentd_list_requirements() -> Sequence[Requirement]:
    """Look for srt, node, bubblewrap, socat and ripgrep, and whether the kernel lets them make namespaces."""
    from agentd_executor_srt.requirements import list_requirements

    return list_requirements()


@hookimpl
def agentd_settle_workspace(workspace_dir: Path) -> Sequence[str]:
    """Take away what a sandbox that was killed has left in the workspace, and give root's files back."""
    from agentd_executor_srt.settling import settle

    return settle(workspace_dir)

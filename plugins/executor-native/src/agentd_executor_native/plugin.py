"""The plugin `native` of the group `agentd.executors`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentd.hookspecs import hookimpl
from agentd.protocols import Requirement

if TYPE_CHECKING:
    from agentd_executor_native.executor import NativeExecutor

AGENTD_API = 1


@hookimpl
def agentd_create_executor(workspace_dir: Path, options: Mapping[str, Any]) -> NativeExecutor:
    """Options: those of `NativeExecutor` but the workspace."""
    from agentd_executor_native.executor import from_options

    return from_options(workspace_dir, options)


@hookimpl
def agentd_list_requirements() -> Sequence[Requirement]:
    """Look for bubblewrap, user namespaces and filters of system calls."""
    from agentd_executor_native.requirements import list_requirements

    return list_requirements()


@hookimpl
def agentd_settle_workspace(workspace_dir: Path) -> Sequence[str]:
    """Take away what stands in for absent files since a program was killed."""
    from agentd_runner.host.placeholders import settle_stand_ins

    return settle_stand_ins(workspace_dir, "native")

"""The plugin `auto` of the group `agentd.executors`: `native` where this machine can run it, else `subprocess`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentd.hookspecs import hookimpl

if TYPE_CHECKING:
    from agentd.protocols import Executor

AGENTD_API = 1


@hookimpl
def agentd_create_executor(
    workspace_dir: Path, options: Mapping[str, Any], make_executor: Callable[..., Executor]
) -> Executor:
    """Options: those of `native` (without a sandbox, of `subprocess`); the mapping `native`: for that one alone."""
    from agentd_executor_native.choice import create

    return create(workspace_dir, options, make_executor)

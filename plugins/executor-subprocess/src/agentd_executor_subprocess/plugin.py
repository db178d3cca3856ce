"""The plugin `subprocess` of the group `agentd.executors`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentd.hookspecs import hookimpl
from agentd.protocols import Requirement

if TYPE_CHECKING:
    from agentd_executor_subprocess.executor import SubprocessExecutor

AGENTD_API = 1


@hookimpl
def agentd_create_executor(workspace_dir: Path, options: Mapping[str, Any]) -> SubprocessExecutor:
    """Options: `python`, `timeout`, `limits`, `state`, `env`, `base_dir`, `preload`; see `SubprocessExecutor`."""
    from agentd_executor_subprocess.executor import from_options

    return from_options(workspace_dir, options)


@hookimpl
def agentd_list_requirements() -> Sequence[Requirement]:
    """Look for bash, which runs bash blocks."""
    import shutil

    path = shutil.which("bash")
    return [
        Requirement(name="bash", ok=path is not None, detail=path or "", remedy="install the package bash")
    ]

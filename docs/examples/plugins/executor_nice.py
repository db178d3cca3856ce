"""An executor plugin: the `subprocess` executor's way of running code, with a low priority.

[project.entry-points."agentd.executors"]
nice = "executor_nice"
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agentd.errors import SandboxUnavailableError
from agentd.hookspecs import hookimpl
from agentd.registry.options import check_options
from agentd_runner.host import RunnerExecutor, RunnerProcess, spawn

AGENTD_API = 1

OPTIONS = {"niceness": int, "timeout": float | None, "limits": dict}


class NiceExecutor(RunnerExecutor):
    """Starts the runner under `nice`. Everything else is the base class's."""

    niceness = 10

    def launch(self, command: Sequence[str], env: Mapping[str, str]) -> RunnerProcess:
        nice = shutil.which("nice")
        if nice is None:
            raise SandboxUnavailableError("the executor 'nice' needs the program nice; install coreutils")
        # Not in the workspace: nothing that code writes there may be imported by the runner.
        return spawn([nice, "-n", str(self.niceness), *command], env, "/")


@hookimpl
def agentd_create_executor(workspace_dir: Path, options: Mapping[str, Any]) -> NiceExecutor:
    check_options("the executor 'nice'", options, OPTIONS)
    rest = dict(options)
    niceness = rest.pop("niceness", NiceExecutor.niceness)
    executor = NiceExecutor(workspace_dir, **rest)
    executor.niceness = niceness
    return executor

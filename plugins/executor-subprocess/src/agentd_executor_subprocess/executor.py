"""`SubprocessExecutor`: the runner as a plain child process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agentd.registry.options import check_options
from agentd_runner.host import COMMON_OPTIONS, RunnerExecutor, RunnerProcess, start_runner

__all__ = ["SubprocessExecutor", "from_options"]


class SubprocessExecutor(RunnerExecutor):
    """Runs code as child processes of this program, with this user's rights. NOT a sandbox.

    The code can read and write whatever this user can. Time-outs, output limits, resource limits and the
    environment's allow-list hold as for every executor; they protect against accidents, not against
    hostile code. Parameters as in `agentd_runner.host.RunnerExecutor`.
    """

    plugin_name = "subprocess"
    trusts_interpreter = True

    def launch(self, command: Sequence[str], env: Mapping[str, str]) -> RunnerProcess:
        return start_runner(command, env)


def from_options(workspace_dir: Path, options: Mapping[str, Any]) -> SubprocessExecutor:
    """Make an executor from a plugin's options; raises `ConfigError` for a wrong one."""
    check_options("the executor 'subprocess'", options, COMMON_OPTIONS)
    return SubprocessExecutor(workspace_dir, **options)

"""The host's side of the runner: start it, speak frames with it, wait for actions.

A new executor subclasses `RunnerExecutor` and implements `launch`; `spawn` is there for those that start a
local command, `start_runner` for those that start nothing but the runner.
"""

from __future__ import annotations

from agentd_runner.host.executor import COMMON_OPTIONS, RunnerExecutor
from agentd_runner.host.forkserver import start_runner
from agentd_runner.host.process import LocalProcess, RunnerProcess, spawn
from agentd_runner.host.snapshotting import WorkspaceSnapshots

__all__ = [
    "COMMON_OPTIONS",
    "LocalProcess",
    "RunnerExecutor",
    "RunnerProcess",
    "WorkspaceSnapshots",
    "spawn",
    "start_runner",
]

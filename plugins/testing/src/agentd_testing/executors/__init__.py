"""`ExecutorContract`: what every executor promises, as tests."""

from __future__ import annotations

from agentd_testing.executors.ends import EndsPart
from agentd_testing.executors.files import FilesPart
from agentd_testing.executors.jobs import JobsPart
from agentd_testing.executors.limits import LimitsPart
from agentd_testing.executors.output import OutputPart
from agentd_testing.executors.snapshots import SnapshotsPart
from agentd_testing.executors.state import StatePart
from agentd_testing.executors.tools import ToolsPart

__all__ = ["ExecutorContract"]


class ExecutorContract(
    OutputPart, StatePart, FilesPart, ToolsPart, LimitsPart, SnapshotsPart, JobsPart, EndsPart
):
    """Subclass it, name the factory, and pytest runs the whole suite:

        class TestMyExecutor(ExecutorContract):
            factory = "my_package.executor:MyExecutor"

    See `agentd_testing.executors.base.ExecutorBase` for what else can be set.
    """

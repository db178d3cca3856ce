"""`ExecutorContract`: what every executor promises, as tests."""

from __future__ import annotations

from agentd.testing.executors.ends import EndsPart
from agentd.testing.executors.files import FilesPart
from agentd.testing.executors.limits import LimitsPart
from agentd.testing.executors.output import OutputPart
from agentd.testing.executors.snapshots import SnapshotsPart
from agentd.testing.executors.state import StatePart
from agentd.testing.executors.tools import ToolsPart

__all__ = ["ExecutorContract"]


class ExecutorContract(OutputPart, StatePart, FilesPart, ToolsPart, LimitsPart, SnapshotsPart, EndsPart):
    """Subclass it, name the factory, and pytest runs the whole suite:

        class TestMyExecutor(ExecutorContract):
            factory = "my_package.executor:MyExecutor"

    See `agentd.testing.executors.base.ExecutorBase` for what else can be set.
    """

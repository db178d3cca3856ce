"""The part of the executors' contract on limits, on the stand-in."""

from __future__ import annotations

from pathlib import Path

import pytest
from agentd.protocols import Executor
from agentd.testing.executors.limits import LimitsPart
from agentd.types import Limits
from agentd_executor_msb.executor import MicrosandboxCLIExecutor
from standin import BWRAP


@pytest.mark.skipif(BWRAP is None, reason="bubblewrap is missing: apt-get install bubblewrap")
@pytest.mark.usefixtures("stand_in")
class TestLimits(LimitsPart):
    local_processes = False

    def make_executor(self, workspace: Path, *, limits: Limits) -> Executor:
        return MicrosandboxCLIExecutor(workspace, limits=limits)

"""The microVM executor keeps the contract of executors: on the stand-in always, on a real microVM with `-m kvm`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from agentd.protocols import Executor
from agentd.types import Limits
from agentd_executor_msb.executor import MicrosandboxCLIExecutor
from agentd_runner.host import RunnerExecutor
from agentd_testing import ExecutorContract
from kvm import why_no_kvm
from standin import BWRAP, GUEST_PYTHON, StandIn


@pytest.mark.slow
@pytest.mark.skipif(BWRAP is None, reason="bubblewrap is missing: apt-get install bubblewrap")
class TestOnTheStandIn(ExecutorContract):
    @pytest.fixture(autouse=True)
    def _stand_in(self, stand_in: type[StandIn]) -> None:
        """Put it in the SDK's place."""

    def make_executor(self, workspace: Path, *, limits: Limits) -> Executor:
        return MicrosandboxCLIExecutor(workspace, limits=limits, python=GUEST_PYTHON)

    def kill_place(self, executor: Executor) -> None:
        assert isinstance(executor, RunnerExecutor)
        assert executor._connection is not None
        executor._connection.kill("the microVM has gone")


@pytest.mark.kvm
class TestOnAMicroVM(ExecutorContract):
    local_processes = False

    @pytest.fixture(autouse=True)
    def _kvm(self) -> None:
        """Skip where none can boot."""
        if reason := why_no_kvm():
            pytest.skip(reason)

    def make_executor(self, workspace: Path, *, limits: Limits) -> Executor:
        return MicrosandboxCLIExecutor(workspace, limits=limits, image=Path(os.environ["AGENTD_TEST_ROOTFS"]))

    def kill_place(self, executor: Executor) -> None:
        assert isinstance(executor, RunnerExecutor)
        assert executor._connection is not None
        executor._connection.kill("the microVM has gone")

"""The subprocess executor keeps the contract of executors, on both event loops."""

from __future__ import annotations

import pytest
from agentd_testing import ExecutorContract


class TestSubprocessExecutor(ExecutorContract):
    factory = "agentd_executor_subprocess.executor:SubprocessExecutor"

    @pytest.fixture(params=["asyncio", "trio"])
    def anyio_backend(self, request: pytest.FixtureRequest) -> str:
        backend = request.param
        assert isinstance(backend, str)
        return backend

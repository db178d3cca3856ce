"""srt keeps the contract of executors."""

from __future__ import annotations

import os

import pytest
import sandbox
from agentd_testing import ExecutorContract

pytestmark = pytest.mark.skipif(
    bool(sandbox.missing()) and os.environ.get("CI") != "true", reason=sandbox.missing() or "-"
)


class TestSandboxRuntimeExecutor(ExecutorContract):
    """The whole suite, each test in a sandbox of its own."""

    factory = "agentd_executor_srt.executor:SandboxRuntimeExecutor"
    options = {"srt_path": str(sandbox.CLI)}  # noqa: RUF012

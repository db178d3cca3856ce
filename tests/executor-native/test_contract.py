"""The native sandbox keeps the contract of executors."""

from __future__ import annotations

import os

import native
import pytest
from agentd_testing import ExecutorContract

pytestmark = pytest.mark.skipif(
    bool(native.missing()) and os.environ.get("CI") != "true", reason=native.missing() or "-"
)


class TestNativeExecutor(ExecutorContract):
    """The whole suite, each test in a sandbox of its own."""

    factory = "agentd_executor_native.executor:NativeExecutor"

"""Inspect's own checks of a sandbox environment (`inspect_ai.util._sandbox.self_check`) on agentd's."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest
from agentd_inspect import AgentdSandboxConfig, AgentdSandboxEnvironment
from inspect_ai.util._sandbox.self_check import *  # noqa: F403

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

LEFT_OUT = {"test_exec_as_user": "a sandbox has one user"}
BY_RIGHTS = {
    "test_read_file_not_allowed": "root may read any file",
    "test_write_text_file_without_permissions": "root may write any file",
    "test_write_binary_file_without_permissions": "root may write any file",
}
"""What `subprocess` cannot pass where the tests are root's: it has their rights."""


@pytest.fixture(params=["asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=["native", "subprocess"])
async def sandbox_env(request: pytest.FixtureRequest) -> AsyncIterator[AgentdSandboxEnvironment]:
    name = request.node.originalname
    reasons = LEFT_OUT | (BY_RIGHTS if request.param == "subprocess" and os.geteuid() == 0 else {})
    if name in reasons:
        request.node.add_marker(pytest.mark.xfail(reason=reasons[name], strict=True))
    made = await AgentdSandboxEnvironment.sample_init("task", AgentdSandboxConfig(executor=request.param), {})
    yield made["default"].as_type(AgentdSandboxEnvironment)
    await AgentdSandboxEnvironment.sample_cleanup("task", None, made, False)

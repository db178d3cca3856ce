"""LangChain's suite for sandboxes of deep agents, on agentd's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from agentd_deepagents import AgentdSandbox
from deepagents.backends.protocol import SandboxBackendProtocol
from langchain_tests.integration_tests import SandboxIntegrationTests


class TestNative(SandboxIntegrationTests):
    @pytest.fixture(scope="class")
    def sandbox(self) -> Iterator[SandboxBackendProtocol]:
        with AgentdSandbox("native") as backend:
            yield backend


class TestSubprocess(SandboxIntegrationTests):
    @pytest.fixture(scope="class")
    def sandbox(self) -> Iterator[SandboxBackendProtocol]:
        with AgentdSandbox("subprocess") as backend:
            yield backend

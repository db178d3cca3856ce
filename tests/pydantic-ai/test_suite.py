"""Pydantic AI's suite for workspace backends, on agentd's executors."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from agentd_pydantic_ai import AgentdWorkspaceBackend, AgentdWorkspaces
from pydantic_ai.workspaces import WorkspaceBackend, WorkspaceRef
from pydantic_ai.workspaces.conformance import WorkspaceBackendSuite


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class AgentdSuite(WorkspaceBackendSuite):
    executor = ""

    @pytest.fixture
    async def workspaces(self) -> AsyncIterator[AgentdWorkspaces]:
        async with AgentdWorkspaces(self.executor) as made:
            yield made

    @pytest.fixture
    async def backend(self, workspaces: AgentdWorkspaces) -> WorkspaceBackend:
        return workspaces.backend()

    @pytest.fixture
    def fresh_backend(self, workspaces: AgentdWorkspaces) -> Callable[[], WorkspaceBackend]:
        return workspaces.backend

    @pytest.fixture
    def attach_backend(self, workspaces: AgentdWorkspaces) -> Callable[[WorkspaceRef], WorkspaceBackend]:
        return workspaces.backend

    @pytest.fixture
    def destroy_environment(
        self, workspaces: AgentdWorkspaces
    ) -> Callable[[WorkspaceBackend], Awaitable[None]]:
        async def destroy(backend: WorkspaceBackend) -> None:
            assert isinstance(backend, AgentdWorkspaceBackend)
            assert backend.ref is not None
            await workspaces.destroy(backend.ref)

        return destroy


class TestNative(AgentdSuite):
    executor = "native"


class TestSubprocess(AgentdSuite):
    executor = "subprocess"

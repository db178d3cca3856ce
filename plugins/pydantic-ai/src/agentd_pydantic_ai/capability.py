"""`AgentdWorkspace`: Pydantic AI's capability that gives each run of an agent a workspace."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

from pydantic_ai import RunContext
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.workspaces import WorkspaceBackend, WorkspaceRef

from agentd_pydantic_ai.backend import PROVIDER
from agentd_pydantic_ai.environments import AgentdWorkspaces

__all__ = ["AgentdWorkspace"]


@dataclass
class AgentdWorkspace(AbstractCapability[Any]):
    """Gives a run a new workspace, or the one that its `workspace=` or its message history refers to.

    :ivar workspaces: which holds them. It is not closed with the agent.
    :ivar id: fixed, so that a later one takes the place of this one.
    """

    workspaces: AgentdWorkspaces
    _: KW_ONLY
    id: str | None = "agentd_workspace"

    def get_workspace(self, ctx: RunContext[Any], *, ref: WorkspaceRef | None) -> WorkspaceBackend | None:
        """Return the backend, whose sandbox its first operation opens; None for a reference of another provider."""
        if ref is not None and ref.provider != PROVIDER:
            return None
        return self.workspaces.backend(ref)

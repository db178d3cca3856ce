"""Pydantic AI's agents in agentd's sandboxes: a workspace backend, and a toolset whose one tool runs code."""

from __future__ import annotations

from agentd_pydantic_ai.backend import AgentdWorkspaceBackend
from agentd_pydantic_ai.capability import AgentdWorkspace
from agentd_pydantic_ai.environments import AgentdWorkspaces
from agentd_pydantic_ai.toolset import CodeToolset

__all__ = ["AgentdWorkspace", "AgentdWorkspaceBackend", "AgentdWorkspaces", "CodeToolset"]

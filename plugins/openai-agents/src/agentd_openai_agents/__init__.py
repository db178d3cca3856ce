"""Sandbox agents of the OpenAI Agents SDK in agentd's sandboxes: `SandboxRunConfig(client=AgentdSandboxClient())`."""

from __future__ import annotations

from agentd_openai_agents.client import AgentdSandboxClient, AgentdSandboxClientOptions
from agentd_openai_agents.session import AgentdSandboxSession, AgentdSandboxSessionState

__all__ = [
    "AgentdSandboxClient",
    "AgentdSandboxClientOptions",
    "AgentdSandboxSession",
    "AgentdSandboxSessionState",
]

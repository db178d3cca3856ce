"""Deep agents' commands and files in agentd's sandboxes: `create_deep_agent(backend=AgentdSandbox())`."""

from __future__ import annotations

from agentd_deepagents.backend import AgentdSandbox

__all__ = ["AgentdSandbox"]

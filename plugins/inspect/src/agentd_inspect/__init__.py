"""Inspect's samples in agentd's sandboxes: `sandbox="agentd"`."""

from __future__ import annotations

from agentd_inspect.environment import AgentdSandboxConfig, AgentdSandboxEnvironment

__all__ = ["AgentdSandboxConfig", "AgentdSandboxEnvironment"]

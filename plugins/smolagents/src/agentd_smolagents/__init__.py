"""smolagents' code agents in agentd's sandboxes: `CodeAgent(executor=AgentdPythonExecutor())`."""

from __future__ import annotations

from agentd_smolagents.executor import AgentdPythonExecutor

__all__ = ["AgentdPythonExecutor"]

"""The errors of this plugin."""

from __future__ import annotations

from agentd.errors import ToolError

__all__ = ["McpServerError"]


class McpServerError(ToolError):
    """An MCP server could not be started or reached, died, or broke the protocol.

    `server` is its name. The text says what happened and shows the end of its standard error.
    """

    def __init__(self, server: str, problem: str) -> None:
        self.server = server
        super().__init__(f"the MCP server {server!r} {problem}")

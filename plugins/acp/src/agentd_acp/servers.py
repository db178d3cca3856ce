"""The MCP servers that an editor gives a session, as agentd's MCP bridge takes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from acp.schema import HttpMcpServer, McpServerStdio, SseMcpServer
from agentd.errors import ConfigError

__all__ = ["servers_of"]


def servers_of(given: Sequence[Any] | None, cwd: Path) -> list[dict[str, Any]]:
    """Return what `Session(mcp_servers=...)` is told.

    :param given: servers as `session/new` has them; a process is started in `cwd`.
    :raises ConfigError: for a kind that was not offered.
    """
    return [_server(one, cwd) for one in given or ()]


def _server(given: Any, cwd: Path) -> dict[str, Any]:
    if isinstance(given, McpServerStdio):
        return {
            "name": given.name,
            "command": given.command,
            "args": list(given.args),
            "env": {variable.name: variable.value for variable in given.env},
            "cwd": str(cwd),
        }
    if isinstance(given, HttpMcpServer | SseMcpServer):
        return {
            "name": given.name,
            "type": given.type,
            "url": given.url,
            "headers": {header.name: header.value for header in given.headers},
        }
    name = getattr(given, "name", "")
    raise ConfigError(
        f"mcpServers: {name!r:.80} is of a kind that agentd acp does not take: stdio, http and sse are"
    )

"""The plugin `mcp` of the group `agentd.tool_sources`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agentd.hookspecs import hookimpl
from agentd.protocols import Requirement

if TYPE_CHECKING:
    from agentd_mcp_bridge.source import McpSource

AGENTD_API = 1


@hookimpl
def agentd_create_tool_sources(spec: object, options: Mapping[str, Any]) -> Sequence[McpSource] | None:
    """Take whatever names MCP servers; `agentd_mcp_bridge.targets.read_target` lists the forms.

    Options hold for every server of `spec` that does not say otherwise: those of
    `agentd_mcp_bridge.config.ServerConfig`.
    """
    from agentd_mcp_bridge.targets import read_target

    configs = read_target(spec, options)
    if configs is None:
        return None
    from agentd_mcp_bridge.source import McpSource

    return [McpSource(config) for config in configs]


@hookimpl
def agentd_list_requirements() -> Sequence[Requirement]:
    """Look for what starts MCP servers that are packages of npm or of Python; other servers need neither."""
    import shutil

    found = []
    for name, packages, remedy in (
        ("npx", "npm packages", "install Node.js, which brings it"),
        ("uvx", "Python packages", "pip install uv"),
    ):
        path = shutil.which(name)
        detail = path or f"for MCP servers that are {packages}"
        found.append(Requirement(name=name, ok=path is not None, detail=detail, remedy=remedy, optional=True))
    return found

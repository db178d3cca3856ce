"""What a user passes as an MCP server, recognised and checked; nothing is imported or started for it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any, Final

from agentd.errors import ConfigError

from agentd_mcp_bridge.config import (
    AgentsTarget,
    HttpTarget,
    ServerConfig,
    ServerTarget,
    StdioTarget,
    Target,
    TransportTarget,
)
from agentd_mcp_bridge.entries import configure, looks_like_entry, read_entry, read_options
from agentd_mcp_bridge.names import command_name, url_name
from agentd_mcp_bridge.tables import TABLE_KEYS, AskInput, read_file, read_table

__all__ = ["read_target"]

_AGENTS_METHODS: Final = ("connect", "list_tools", "call_tool", "cleanup")


def read_target(spec: object, options: Mapping[str, Any] | None = None) -> list[ServerConfig] | None:
    """Return the servers that `spec` names, or None if it is no MCP server.

    | `spec` | means |
    |---|---|
    | `str` with `http://` or `https://` | a URL |
    | any other `str` | a command line |
    | `mcp.StdioServerParameters` | a command |
    | a dict with `command`, `url`, `server` or `transport` | one server, with options |
    | a dict with `mcpServers` or `servers` | a table of servers by name |
    | `pathlib.Path` | a JSON file with such a table |
    | a transport of the SDK (`sse_client(url)`) | used once |
    | `mcp.server.MCPServer` or `Server` | served in this process |
    | an object with `connect`, `list_tools`, `call_tool`, `cleanup` | one of openai-agents |

    :param options: for every server that does not say otherwise; `ask_input` is a table's (`tables.AskInput`).
    :raises ConfigError: for what is nearly right; it names the key and what is allowed.
    """
    given = dict(options or {})
    ask_input: AskInput | None = given.pop("ask_input", None)
    defaults = read_options(given, where="options")
    if isinstance(spec, Mapping):
        return _from_mapping(spec, defaults, ask_input)
    if isinstance(spec, PurePath):
        return read_file(Path(spec), defaults, ask_input)
    target, name = _target(spec)
    if target is None:
        return None
    return [configure(target, name, defaults)]


def _from_mapping(
    spec: Mapping[Any, Any], defaults: Mapping[str, Any], ask_input: AskInput | None
) -> list[ServerConfig] | None:
    if any(key in spec and isinstance(spec[key], Mapping) for key in TABLE_KEYS):
        return read_table(spec, defaults, ask_input)
    if not looks_like_entry(spec):
        return None
    inner = next((key for key in ("server", "transport") if key in spec), None)
    if inner is None:
        return [read_entry(spec, defaults)]
    target, name = _object_target(spec[inner])
    if target is None and inner == "transport" and callable(spec[inner]):
        target, name = TransportTarget(transport=spec[inner], factory=True), "mcp"
    if target is None:
        raise ConfigError(f"{inner}: must be a server or a transport of the MCP SDK, got {spec[inner]!r}")
    own = read_options({k: v for k, v in spec.items() if k != inner}, where="")
    return [configure(target, name, {**defaults, **own})]


def _target(spec: object) -> tuple[Target | None, str]:
    if isinstance(spec, str):
        return _text_target(spec)
    return _object_target(spec)


def _text_target(text: str) -> tuple[Target, str]:
    if not text.strip():
        raise ConfigError("an MCP server as a string is a URL or a command line, got an empty one")
    if text.startswith(("http://", "https://")):
        return HttpTarget(url=text), url_name(text)
    try:
        command, *args = shlex.split(text)
    except ValueError as error:
        raise ConfigError(f"the command line {text!r} cannot be read: {error}") from None
    return StdioTarget(command=command, args=tuple(args)), command_name(command, args)


def _object_target(spec: object) -> tuple[Target | None, str]:
    if all(callable(getattr(spec, method, None)) for method in _AGENTS_METHODS):
        return _agents_target(spec)
    module = type(spec).__module__
    if module.startswith("mcp."):  # so `mcp` is imported already
        from mcp import StdioServerParameters

        if isinstance(spec, StdioServerParameters):
            return parameters_target(spec), command_name(spec.command, spec.args)
        if _is_server(spec):
            return ServerTarget(server=spec), str(getattr(spec, "name", "") or "mcp")
    if hasattr(spec, "__aenter__") and hasattr(spec, "__aexit__") and "mcp" in sys.modules:
        return TransportTarget(transport=spec), "mcp"
    return None, ""


def _is_server(spec: object) -> bool:
    from mcp.server import Server
    from mcp.server.mcpserver import MCPServer

    return isinstance(spec, Server | MCPServer)


def parameters_target(parameters: Any) -> StdioTarget:
    """Return the target for `mcp.StdioServerParameters`."""
    return StdioTarget(
        command=parameters.command,
        args=tuple(parameters.args),
        env=dict(parameters.env or {}),
        cwd=None if parameters.cwd is None else str(parameters.cwd),
        encoding=parameters.encoding,
    )


def _agents_target(server: Any) -> tuple[AgentsTarget, str]:
    """Return the target for an object of openai-agents, and its name."""
    fallback = _agents_fallback(getattr(server, "params", None))
    name = str(getattr(server, "name", "") or "mcp")
    return AgentsTarget(server=server, fallback=fallback), name


def _agents_fallback(params: Any) -> StdioTarget | HttpTarget | None:
    if isinstance(params, Mapping) and isinstance(params.get("url"), str):
        return HttpTarget(
            url=params["url"], headers=dict(params.get("headers") or {}), auth=params.get("auth")
        )
    if isinstance(getattr(params, "command", None), str):
        return parameters_target(params)
    return None

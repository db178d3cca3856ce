"""The MCP servers that an editor gives a session, as agentd's MCP bridge takes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count, islice
from pathlib import Path
from typing import Any, Final

from acp.schema import AcpMcpServer, HttpMcpServer, McpServerStdio, SseMcpServer
from agentd.errors import ConfigError
from agentd_mcp_bridge.entries import read_entry
from pydantic import TypeAdapter, ValidationError

__all__ = ["malformed_items", "servers_of"]

_KINDS: Final[dict[Any, type[HttpMcpServer | SseMcpServer | AcpMcpServer]]] = {
    "http": HttpMcpServer,
    "sse": SseMcpServer,
    "acp": AcpMcpServer,
}
_SERVER: Final[TypeAdapter[Any]] = TypeAdapter(HttpMcpServer | SseMcpServer | AcpMcpServer | McpServerStdio)
_MAX_TOLD: Final = 5
_TOLD_CHARS: Final = 300


def malformed_items(params: dict[str, Any]) -> list[str]:
    """Return what is wrong with items of the lists of `session/new` and its siblings. Each text names one item.

    The protocol's schema marks these lists with `x-deserialize-skip-invalid-items`: a session begins without such an
    item. The SDK leaves them out without a word.

    :param params: as they have come.
    """
    found = list(islice(_malformed(params), _MAX_TOLD + 1))
    if len(found) > _MAX_TOLD:
        found[_MAX_TOLD:] = ["and more"]
    return [text if len(text) <= _TOLD_CHARS else f"{text[: _TOLD_CHARS - 1]}…" for text in found]


def _malformed(params: dict[str, Any]) -> Iterator[str]:
    servers, folders = params.get("mcpServers"), params.get("additionalDirectories")
    for at, one in enumerate(servers if isinstance(servers, list) else ()):
        if why := _why_malformed(one):
            yield f"mcpServers[{at}]{_named(one)}: {why}"
    for at, one in enumerate(folders if isinstance(folders, list) else ()):
        if not isinstance(one, str):
            yield f"additionalDirectories[{at}]: must be a text"


def _named(given: Any) -> str:
    name = given.get("name") if isinstance(given, dict) else None
    return f" {name!r:.80}" if isinstance(name, str) else ""


def _why_malformed(given: Any) -> str:
    """Return what is wrong with a server; nothing if the SDK takes it, as one with a command whatever its type."""
    if not isinstance(given, dict):
        return "must be an object"
    try:
        _SERVER.validate_python(given)
        return ""
    except ValidationError:
        kind = given.get("type")
    model = _KINDS.get(kind if isinstance(kind, str) else None, McpServerStdio)
    try:
        model.model_validate(given)
    except ValidationError as error:
        if model is McpServerStdio and kind not in (None, "stdio"):
            named = repr(kind)[:80] if isinstance(kind, str) else "that"
            return f"type: {named} is not known; there are http, sse, and none for a command"
        return "; ".join(
            f"{'.'.join(map(str, one['loc']))}: {one['msg'].lower()}" for one in error.errors()[:3]
        )
    return ""


def servers_of(given: Sequence[Any] | None, cwd: Path) -> list[dict[str, Any]]:
    """Return what `Session(mcp_servers=...)` is told.

    :param given: servers as `session/new` has them; a process is started in `cwd`.
    :raises ConfigError: for a kind that was not offered, and for what cannot be right, as a `url` that is not one.
    """
    made: dict[str, dict[str, Any]] = {}
    for one in given or ():
        server = _server(one, cwd)
        read_entry(server, {}, where=f"mcpServers: {server['name']!r:.80}")
        if server["name"] in made:  # told apart, as one of them may be left out
            free = (f"{server['name']}-{number}" for number in count(2))
            server["name"] = next(name for name in free if name not in made)
        made[server["name"]] = server
    return list(made.values())


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

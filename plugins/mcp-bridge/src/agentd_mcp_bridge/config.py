"""What is known about a server before it is opened."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any, Final, Literal

import attrs

__all__ = [
    "AgentsTarget",
    "Callback",
    "HttpTarget",
    "Protocol",
    "ServerConfig",
    "ServerTarget",
    "StdioTarget",
    "Target",
    "ToolFilter",
    "TransportTarget",
]

Callback = Callable[[dict[str, Any]], Any] | Callable[[dict[str, Any]], Awaitable[Any]]
HttpKind = Literal["auto", "http", "sse"]
Protocol = Literal["auto", "legacy"]

DEFAULT_START_TIMEOUT_S: Final = 30.0
DEFAULT_MAX_MESSAGE_MIB: Final = 64.0


@attrs.frozen(kw_only=True)
class StdioTarget:
    """A program that speaks MCP over its standard input and output."""

    command: str
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = attrs.field(factory=dict, repr=False)  # may hold secrets
    cwd: str | None = None
    encoding: str = "utf-8"

    def environment(self) -> dict[str, str]:
        """Return what the server sees: the SDK's safe defaults (PATH, HOME, ...) and what the user gave."""
        from mcp.client.stdio import get_default_environment

        return {**get_default_environment(), **self.env}


@attrs.frozen(kw_only=True)
class HttpTarget:
    """A URL. `auto` tries streamable HTTP first, then SSE (the other way round for a path that ends in /sse)."""

    url: str
    kind: HttpKind = "auto"
    headers: Mapping[str, str] = attrs.field(factory=dict, repr=False)  # may hold secrets
    auth: object = attrs.field(default=None, repr=False)


@attrs.frozen(kw_only=True)
class TransportTarget:
    """A transport of the SDK, or (`factory`) a function that makes one for each connection."""

    transport: Any
    factory: bool = False


@attrs.frozen(kw_only=True)
class ServerTarget:
    """A server object of the SDK, served in this process."""

    server: Any


@attrs.frozen(kw_only=True)
class AgentsTarget:
    """A server object of openai-agents, or anything with `connect`, `list_tools`, `call_tool`, `cleanup`.

    `fallback` is how to reach the same server without the object, if its parameters say.
    """

    server: Any
    fallback: StdioTarget | HttpTarget | None = None


Target = StdioTarget | HttpTarget | TransportTarget | ServerTarget | AgentsTarget


@attrs.frozen
class ToolFilter:
    """Which tools of a server are offered: globs on their names; `deny` wins, `allow=None` allows all."""

    allow: tuple[str, ...] | None = None
    deny: tuple[str, ...] = ()

    def admits(self, name: str) -> bool:
        """Tell whether the tool may be seen and called."""
        if any(fnmatchcase(name, pattern) for pattern in self.deny):
            return False
        return self.allow is None or any(fnmatchcase(name, pattern) for pattern in self.allow)


@attrs.frozen(kw_only=True)
class ServerConfig:
    """A server and how it is used.

    :param name: the source's name; tools appear as its skill.
    :param tool_filter: which tools are offered.
    :param timeout_s: seconds that one call may take; None leaves it to the tool set (60).
    :param start_timeout_s: seconds for starting, connecting and the handshake together.
    :param max_message_mib: the largest message that the server may send.
    :param elicitation: answers the server's questions; see `agentd_mcp_bridge.callbacks`.
    :param sampling: lets the server ask a model.
    :param roots: directories that the server is told of; none by default.
    :param shared: clients of an MCP server of ours (`agentd mcp`) that have no session share its connection; else each
        of their requests has one of its own, as what the server asks may be meant for any of them.
    :param protocol: the revision to speak: the newest that both sides know, or only those with a handshake
        (2025-11-25 and older).
    """

    name: str
    target: Target
    tool_filter: ToolFilter = ToolFilter()
    timeout_s: float | None = None
    start_timeout_s: float = DEFAULT_START_TIMEOUT_S
    max_message_mib: float = DEFAULT_MAX_MESSAGE_MIB
    elicitation: Callback | None = None
    sampling: Callback | None = None
    roots: tuple[str, ...] | None = None
    protocol: Protocol = "auto"
    shared: bool = True

    @property
    def max_message_bytes(self) -> int:
        """The limit in bytes."""
        return int(self.max_message_mib * 1024 * 1024)

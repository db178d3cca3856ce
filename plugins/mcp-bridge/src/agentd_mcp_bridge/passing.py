"""Requests of an MCP client that agentd itself serves, passed on to a server, and what the server asks that client.

The values that code gets (`agentd_mcp_bridge.results`) say less than what came over the wire; a client wants all of
that. So a request that is passed on is made with the SDK's own client and returns the SDK's own result, and a refusal
of the server's is its own error. How the connection is opened, and what follows if it breaks, is the same for both.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, Final, Literal, Protocol

import attrs
import mcp_types as types
from agentd.errors import ToolError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from agentd_mcp_bridge.errors import McpServerError

__all__ = [
    "Kind",
    "PassedRequest",
    "ServedClient",
    "passed_request",
    "refusal_behind",
    "served_callbacks",
    "set_level",
]

Kind = Literal["tools", "prompts", "resources", "resource_templates"]


@attrs.define(eq=False)
class PassedRequest:
    """A request on its way to a server.

    :param what: names it in errors, `the prompt 'review'` say.
    :param send: makes it with the SDK's open client; called in the MCP loop, once more if the connection broke and
        asking twice is safe.
    :param source: the `McpSource` whose connection is used, for a call that goes through the tool set of another one.
    :ivar result: the SDK's result, once there is one.
    :ivar error: the server's refusal, an `MCPError`.
    """

    what: str
    send: Callable[[Any], Awaitable[Any]]
    source: Any = None
    result: Any = None
    error: Exception | None = None


passed_request: Final[ContextVar[PassedRequest | None]] = ContextVar("agentd_passed_request", default=None)
"""The request that is being passed on. `McpSource.call` makes it instead of the call that it is told of, so that a call
goes through the tool set, with its policy and its limits, and is the client's own all the same."""


def refusal_behind(error: ToolError) -> Exception | None:
    """Return the server's own refusal (`MCPError`) behind an error, or None if the server could not be asked."""
    from mcp import MCPError

    cause = error.__cause__
    return cause if isinstance(cause, MCPError) and not isinstance(error, McpServerError) else None


class ServedClient(Protocol):
    """The client on whose behalf a server is used. Both methods are called in the MCP loop.

    `able` is what it says it can be asked. `speaks_handshake`: its revision is one up to 2025-11-25, so servers that
    know both are asked for such a one, too: in the newest, they cannot ask while they work on a request.
    """

    able: types.ClientCapabilities
    speaks_handshake: bool

    async def answer(self, server: str, request: Any) -> Any:
        """Answer a request of a server (`mcp_types.InputRequest`) with the result, or an `mcp_types.ErrorData`."""
        ...

    async def notified(self, server: str, message: Any) -> None:
        """Hear a notification of a server. Must not wait for anybody."""
        ...


def served_callbacks(server: str, client: ServedClient) -> dict[str, Any]:
    """Return what the SDK's client takes, for what this client can be asked."""

    async def elicit(_: Any, params: Any) -> Any:
        return await client.answer(server, types.ElicitRequest(params=params))

    async def sample(_: Any, params: Any) -> Any:
        return await client.answer(server, types.CreateMessageRequest(params=params))

    async def list_roots(_: Any) -> Any:
        return await client.answer(server, types.ListRootsRequest())

    callbacks: dict[str, Any] = {}
    if client.able.elicitation is not None:
        callbacks["elicitation_callback"] = elicit
    if client.able.sampling is not None:
        callbacks |= {"sampling_callback": sample, "sampling_capabilities": client.able.sampling}
    if client.able.roots is not None:
        callbacks["list_roots_callback"] = list_roots
    return callbacks


async def set_level(client: Any, level: types.LoggingLevel) -> None:
    """Say from which level on a server's log messages are wanted; in the newest revision, each request says so."""
    if (
        client.server_capabilities.logging is not None
        and client.protocol_version not in MODERN_PROTOCOL_VERSIONS
    ):
        request = types.SetLevelRequest(params=types.SetLevelRequestParams(level=level))
        await client.session.send_request(request, types.EmptyResult)

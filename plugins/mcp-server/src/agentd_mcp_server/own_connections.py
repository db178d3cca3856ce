"""Connections to a server that clients do not share (`"shared": false`): each is for one request at a time, so whatever
the server asks meanwhile is asked of whoever made that request."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import anyio
import mcp_types as types

if TYPE_CHECKING:
    from agentd_mcp_bridge.source import McpSource

    from agentd_mcp_server.back_channel import BackChannel
    from agentd_mcp_server.person import Person
    from agentd_mcp_server.under_way import ClientRequest

__all__ = ["OwnConnections"]

_MOST: Final = 16
_MOST_IDLE: Final = 4


class _OneRequestClient:
    """Implements `agentd_mcp_bridge.passing.ServedClient` for the client of one request after the other."""

    def __init__(self, channel: BackChannel) -> None:
        self._channel = channel
        self.able = channel.able
        self.speaks_handshake = channel.speaks_handshake
        self.asked: ClientRequest | None = None

    async def answer(self, server: str, request: types.InputRequest) -> Any:
        """See `ServedClient.answer`."""
        if self.asked is None:
            return types.ErrorData(code=types.INTERNAL_ERROR, message="no request of a client is under way")
        return (await self._channel.ask(server, {"": request}, self.asked))[""]

    async def notified(self, server: str, message: Any) -> None:
        """See `ServedClient.notified`. Changes of lists are told by the connection that is shared."""
        if self.asked is not None and isinstance(message, types.LoggingMessageNotification):
            self._channel.soon(self._channel.log, server, message.params, self.asked.person)


class OwnConnections:
    """Those to one server.

    :param shared: the connection that code uses, and lists.
    """

    def __init__(self, shared: McpSource, channel: BackChannel) -> None:
        self._shared = shared
        self._channel = channel
        self._room = anyio.CapacityLimiter(_MOST)
        self._idle: list[tuple[McpSource, _OneRequestClient]] = []
        self._is_closed = False

    @asynccontextmanager
    async def taken(self, person: Person, what: str) -> AsyncIterator[tuple[McpSource, ClientRequest]]:
        """A connection that is used for this request alone. One whose request was given up is used for no other."""
        async with self._room:
            source, client = self._idle.pop() if self._idle else self._new()
            try:
                with self._channel.requests.working(person, "", what) as request:
                    client.asked = request
                    if not source.capabilities:  # nothing is known of what its calls need
                        await source.list_tools()
                    yield source, request
                    client.asked = None
            finally:
                if client.asked is None and request.is_answered and self._has_room:
                    self._idle.append((source, client))
                else:
                    client.asked = None
                    with anyio.CancelScope(shield=True):
                        await source.aclose()

    @property
    def _has_room(self) -> bool:
        return not self._is_closed and len(self._idle) < _MOST_IDLE

    def _new(self) -> tuple[McpSource, _OneRequestClient]:
        client = _OneRequestClient(self._channel)
        source = self._shared.twin()
        source.serve(client)
        return source, client

    async def aclose(self) -> None:
        """End those that are idle; the others end with their requests."""
        self._is_closed = True
        while self._idle:
            source, _ = self._idle.pop()
            await source.aclose()

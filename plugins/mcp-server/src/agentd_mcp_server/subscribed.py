"""The resources of servers behind whose changes a client wants to hear of."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

import anyio
import attrs
import mcp_types as types
from agentd.errors import ToolError
from mcp.shared.exceptions import MCPError

if TYPE_CHECKING:
    from agentd_mcp_bridge.source import McpSource
    from agentd_tools.sources import SubscriptionState

    from agentd_mcp_server.back_channel import BackChannel

__all__ = ["SubscribedResources"]

_MOST: Final = 1000
_ANSWER_S: Final = 60.0


@attrs.define(eq=False)
class _ClientSubscription:
    ends: list[Callable[[], None]] = attrs.field(factory=list)
    wanted: int = 0
    waiting: int = 0  # servers that have not said whether they will tell
    is_settled: anyio.Event = attrs.field(factory=anyio.Event)
    stands: bool = False


class SubscribedResources:
    """Keeps one subscription for each resource, however many want it.

    :param having: returns the servers that may have a resource.
    """

    def __init__(self, having: Callable[[str], Awaitable[list[McpSource]]], channel: BackChannel) -> None:
        self._having = having
        self._channel = channel
        self._by_uri: dict[str, _ClientSubscription] = {}

    def __contains__(self, uri: str) -> bool:
        return uri in self._by_uri

    def __len__(self) -> int:
        return len(self._by_uri)

    async def add(self, uri: str) -> None:
        """Tell the client of changes of a resource. What breaks meanwhile is mended by the connections.

        :raises MCPError: if no server tells of it.
        """
        subscription = self._by_uri.get(uri)
        if subscription is None:
            if len(self._by_uri) >= _MOST:
                raise MCPError(types.INTERNAL_ERROR, f"a client may subscribe to {_MOST} resources at most")
            subscription = self._by_uri[uri] = _ClientSubscription()
        subscription.wanted += 1
        try:
            if subscription.wanted == 1:
                await self._begin(uri, subscription)
            with anyio.move_on_after(_ANSWER_S):
                await subscription.is_settled.wait()
            if not subscription.stands:
                raise MCPError(types.INVALID_PARAMS, f"no server tells of changes of {uri!r:.500}")
        except BaseException:
            self.remove(uri)
            raise

    async def _begin(self, uri: str, subscription: _ClientSubscription) -> None:
        sources = await self._having(uri)
        subscription.waiting = len(sources)
        if not sources:
            subscription.is_settled.set()
        for source in sources:
            heard = partial(self._heard, uri, subscription, [False])
            try:
                subscription.ends.append(source.subscribe(uri, partial(self._channel.soon, heard)))
            except ToolError:  # closed meanwhile
                heard("unsupported")

    def _heard(
        self, uri: str, subscription: _ClientSubscription, has_said: list[bool], state: SubscriptionState
    ) -> None:
        if state == "changed":
            self._channel.resource_changed(uri)
        elif state == "active" and has_said[0]:
            self._channel.resource_changed(uri)  # it may have, while nobody could tell
        if state in ("active", "unsupported") and not has_said[0]:
            has_said[0] = True
            subscription.waiting -= 1
            subscription.stands = subscription.stands or state == "active"
            if subscription.stands or subscription.waiting <= 0:
                subscription.is_settled.set()

    def remove(self, uri: str) -> None:
        """Want to hear of a resource once less."""
        subscription = self._by_uri.get(uri)
        if subscription is None:
            return
        subscription.wanted -= 1
        if subscription.wanted <= 0:
            del self._by_uri[uri]
            _end(subscription)

    def forget(self, uri: str) -> None:
        """Want to hear of a resource no more, however often it was asked for."""
        subscription = self._by_uri.pop(uri, None)
        if subscription is not None:
            _end(subscription)

    @asynccontextmanager
    async def wanted(self, uris: Sequence[str]) -> AsyncIterator[list[str]]:
        """While entered, changes of those of these that a server tells of are told; yields them."""
        told: list[str] = []

        async def add(uri: str) -> None:
            try:
                await self.add(uri)
            except MCPError:
                return
            told.append(uri)

        try:
            async with anyio.create_task_group() as group:
                for uri in dict.fromkeys(uris):
                    group.start_soon(add, uri)
            yield [uri for uri in uris if uri in told]
        finally:
            for uri in told:
                self.remove(uri)

    def close(self) -> None:
        """End all."""
        for uri in list(self._by_uri):
            self.forget(uri)


def _end(subscription: _ClientSubscription) -> None:
    for end in subscription.ends:
        end()
    subscription.is_settled.set()

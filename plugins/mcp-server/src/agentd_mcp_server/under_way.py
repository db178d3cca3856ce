"""The requests of clients on which servers behind work, and for which of them a server asks.

A server up to 2025-11-25 does not say on which request it works when it asks or logs something. So the newest under way
that it may work on counts. Where several clients share its connection, only a sole one counts; one that was given up
without an answer of the server's counts as under way until the server has answered something that was asked later, as
what it has said before that has arrived by then.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Final

import anyio
import attrs
from agentd.errors import ToolError, ToolTimeoutError
from agentd_mcp_bridge.passing import PassedRequest
from mcp.shared.exceptions import MCPError

if TYPE_CHECKING:
    from agentd_mcp_bridge.source import McpSource

    from agentd_mcp_server.person import Person

__all__ = ["ClientRequest", "RequestsUnderWay", "UnclearRequestError", "settled"]

_log = logging.getLogger("agentd.mcp")
_MOST_NAMED: Final = 3
_SETTLES_S: Final = 30.0
Settle = Callable[[], Awaitable[object]]


class UnclearRequestError(Exception):
    """A question may be meant for one of several clients."""


@attrs.define(eq=False)
class ClientRequest:
    """A request of a client.

    :ivar server: that works on it; None for code, which may call any.
    :ivar what: it is, for people: `the call of its tool 'greet'`.
    :ivar is_answered: the server has answered it, so nothing of it is to come any more.
    :ivar may_be: the requests of which it stands for one, if nobody knows for which.
    """

    person: Person
    server: str | None
    what: str = ""
    is_answered: bool = False
    may_be: tuple[ClientRequest, ...] = ()
    _is_over: anyio.Event = attrs.field(factory=anyio.Event, init=False)

    def end(self) -> None:
        """Nobody waits for its answer any more: it has one, or its client has cancelled it or has gone."""
        self._is_over.set()

    async def over(self) -> None:
        """Wait until nobody waits for its answer any more; a server may work on it all the same."""
        for one in self.may_be:
            await one.over()
        if not self.may_be:
            await self._is_over.wait()


class RequestsUnderWay:
    """Those of the clients that share connections.

    :param start: starts a task that ends with the sandboxes.
    :param is_shared: the clients are several, and nothing says which request is whose.
    """

    def __init__(self, start: Callable[..., object], *, is_shared: bool) -> None:
        self._start = start
        self._is_shared = is_shared
        self._all: list[ClientRequest] = []
        self._turns: dict[str, anyio.Lock] = {}  # of servers that ask by themselves
        self._changed = anyio.Event()

    def __len__(self) -> int:
        return len(self._all)

    @contextmanager
    def working(
        self, person: Person, server: str | None = None, what: str = "", settle: Settle | None = None
    ) -> Iterator[ClientRequest]:
        """While entered, a request of this person's is under way; in a shared channel, one that is not answered then
        goes on being so until `settle` is over.

        :param settle: awaits an answer of the server's, whatever it is, or the end of its connection; see `settled`.
        """
        one = ClientRequest(person, server, what)
        self._all.append(one)
        try:
            yield one
        finally:
            one.end()
            if one.is_answered or settle is None or not self._is_shared:
                self._remove(one)
            else:
                self._start(self._remove_later, one, settle)

    @asynccontextmanager
    async def turn(
        self, person: Person, server: str, what: str, settle: Settle
    ) -> AsyncIterator[ClientRequest]:
        """The same for a request of one server. In a shared channel, those of a server that has asked something by
        itself wait for each other, so that what it asks has one meaning."""
        async with self._turns.get(server) or nullcontext():
            with anyio.move_on_after(_SETTLES_S):  # it began before there were turns, or is not settled
                while server in self._turns and any(one.server == server for one in self._all):
                    await self._changed.wait()
            with self.working(person, server, what, settle) as one:
                yield one

    async def _remove_later(self, one: ClientRequest, settle: Settle) -> None:
        try:
            await settle()
        finally:
            self._remove(one)

    def _remove(self, one: ClientRequest) -> None:
        self._all.remove(one)
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    def newest(self, server: str, *, asks: bool = False) -> ClientRequest | None:
        """Return the request on which a server works, or None if there is none.

        :param asks: it asks something: in a shared channel, its requests take turns from now on.
        :raises UnclearRequestError: if it may be one of several clients'.
        """
        if self._is_shared and asks:
            self._turns.setdefault(server, anyio.Lock())
        found = [one for one in self._all if one.server in (None, server)]
        if not found:
            return None
        if self._is_shared and len(found) > 1:
            raise UnclearRequestError(
                f"{len(found)} requests are under way, and a server does not say on which it works"
            )
        *_, newest = found
        if len(found) == 1:
            return newest
        named = [one.what for one in found[-_MOST_NAMED:] if one.what]
        return ClientRequest(newest.person, server, "one of: " + ", ".join(named), may_be=tuple(found))


async def settled(source: McpSource) -> None:
    """Wait until a server has answered something, so that whatever it has said before has arrived; or until its
    connection has ended. A server that is busy is waited for: others may have requests there."""
    while True:
        try:
            await source.pass_on(PassedRequest("a list of its tools", _list))
        except ToolTimeoutError:
            continue
        except (MCPError, ToolError) as error:  # an answer, too, or nobody is there any more
            _log.debug("a given-up request is over: %s", error)
        return


async def _list(client: Any) -> Any:
    return await client.list_tools()

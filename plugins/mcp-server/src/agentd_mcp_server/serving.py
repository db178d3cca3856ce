"""How a client's request is served: in which sandbox, who reads the answer, and how the client is asked meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from mcp.server.streamable_http import REQUEST_CANCELLED
from mcp.shared.exceptions import MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from agentd_mcp_server.abilities import ClientAbilities
from agentd_mcp_server.client_sandboxes import DEFAULT, ClientSandboxes, check_name
from agentd_mcp_server.person import ClientPerson
from agentd_mcp_server.rounds import Params, RoundTrips

if TYPE_CHECKING:
    from mcp.server.context import ServerRequestContext
    from mcp_types import InputRequiredResult

    from agentd_mcp_server.client_sandbox import ClientSandbox
    from agentd_mcp_server.person import Person
    from agentd_mcp_server.reconnecting import Exchange

__all__ = ["EXCHANGE", "SESSION", "RequestServing"]

SESSION: Final = "mcp-session-id"
EXCHANGE: Final = "agentd.exchange"
R = TypeVar("R")


class RequestServing:
    """Serves requests at the sandboxes of a server.

    Over standard input and output there is one. Over HTTP, a client with a session (revisions up to 2025-11-25) has
    one of its own, which ends with it; a client without (2026-07-28) names the one that it means.
    """

    def __init__(self, sandboxes: ClientSandboxes, *, is_http: bool) -> None:
        self._sandboxes = sandboxes
        self._is_http = is_http
        self._round_trips = RoundTrips(sandboxes.start)

    def names_sandboxes(self, context: ServerRequestContext[Any]) -> bool:
        """Tell whether a client says in each call which sandbox it means."""
        return self._is_http and not _session_of(context)

    async def find(self, context: ServerRequestContext[Any], named: str = DEFAULT) -> ClientSandbox:
        """Return the sandbox for a request; opened, if it is the first. :raises AgentdError: if there can be none."""
        session = _session_of(context)
        abilities = ClientAbilities.of(context)
        if not self._is_http:
            return await self._sandboxes.find(DEFAULT, abilities)
        address = str(getattr(getattr(context.request, "client", None), "host", ""))
        if not session:
            check_name(named)
            exchange = cast("Exchange", cast(Any, context.request).scope[EXCHANGE])
            exchange.enter(self._sandboxes.attended(named))
            return await self._sandboxes.find(named, abilities, address)
        # The SDK has no public way to hear of a session's end; where this one is gone, the sandbox ends when idle.
        stack = getattr(getattr(context.session, "_connection", None), "exit_stack", None)

        def ended(close: Callable[[], Awaitable[None]]) -> None:
            if stack is not None:
                stack.push_async_callback(close)

        return await self._sandboxes.find_of_session(session, abilities, ended, address)

    async def read(self, context: ServerRequestContext[Any], work: Callable[[], Awaitable[R]]) -> R:
        """Await `work()`, for as long as somebody reads the answer or may come back for it."""
        scope = getattr(context.request, "scope", None)
        if scope is None:
            return await work()
        exchange = cast("Exchange", scope[EXCHANGE])
        with exchange.readers.reading(exchange, context.request_id):
            return await work()
        raise MCPError(
            REQUEST_CANCELLED, "cancelled: the client's connection broke, and it did not come back"
        )

    async def ask_meanwhile(
        self,
        context: ServerRequestContext[Any],
        params: Params,
        sandbox: ClientSandbox,
        work: Callable[[Person], Awaitable[R]],
    ) -> R | InputRequiredResult:
        """Await `work(person)`, which may ask the person at the client: in rounds, where a server asks nothing while it
        answers."""
        person = ClientPerson(context)
        may_ask = sandbox.has_servers or sandbox.session.resources.policy is not None
        done: Callable[[], Awaitable[R | InputRequiredResult]] = partial(work, person)
        if may_ask and not context.session.can_send_request and ClientAbilities.of(context).can_be_asked:
            done = partial(self._round_trips.serve, params, work, person)
        return await (person.hearing(done) if sandbox.has_servers else done())


def _session_of(context: ServerRequestContext[Any]) -> str:
    """Return the session of a request; in the newest revision there is none, whatever its headers say."""
    headers = getattr(context.request, "headers", None)
    if headers is None or context.protocol_version in MODERN_PROTOCOL_VERSIONS:
        return ""
    return str(headers.get(SESSION, ""))

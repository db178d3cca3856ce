"""The requests with which a client uses what the servers behind offer: handlers of the MCP server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import mcp_types as types
from agentd.errors import AgentdError
from mcp.shared.exceptions import MCPError

from agentd_mcp_server.abilities import ClientAbilities
from agentd_mcp_server.offered_lists import RESULTS
from agentd_mcp_server.upstream_requests import RequestExtras

if TYPE_CHECKING:
    from agentd_mcp_bridge.passing import Kind
    from mcp.server.context import ServerRequestContext
    from mcp.server.lowlevel import Server

    from agentd_mcp_server.client_sandbox import ClientSandbox
    from agentd_mcp_server.gateway import Gateway
    from agentd_mcp_server.person import Person
    from agentd_mcp_server.serving import RequestServing

__all__ = ["KINDS", "UpstreamOffer"]

KINDS: Final = ("tools", "prompts", "resources")
R = TypeVar("R")


class UpstreamOffer:
    """What clients are offered of the servers behind.

    :param kinds: of `KINDS`; empty for nothing.
    """

    def __init__(self, serving: RequestServing, kinds: frozenset[str]) -> None:
        self._serving = serving
        self.kinds = kinds
        self._schemas: Mapping[str, Mapping[str, Any]] = {}

    def add_to(self, server: Server[Any]) -> None:
        """Have a server answer these requests; it says then that it does."""
        handlers: list[tuple[str, Any, Any]] = []
        if "prompts" in self.kinds:
            handlers += [
                ("prompts/list", types.PaginatedRequestParams, partial(self._list, "prompts")),
                ("prompts/get", types.GetPromptRequestParams, self._get_prompt),
            ]
        if "resources" in self.kinds:
            paged = types.PaginatedRequestParams
            handlers += [
                ("resources/list", paged, partial(self._list, "resources")),
                ("resources/templates/list", paged, partial(self._list, "resource_templates")),
                ("resources/read", types.ReadResourceRequestParams, self._read_resource),
                ("resources/subscribe", types.SubscribeRequestParams, self._subscribe),
                ("resources/unsubscribe", types.UnsubscribeRequestParams, self._unsubscribe),
            ]
        if self.kinds & {"prompts", "resources"}:
            handlers.append(("completion/complete", types.CompleteRequestParams, self._complete))
        if self.kinds:
            handlers += [
                ("subscriptions/listen", types.SubscriptionsListenRequestParams, self._listen),
                ("logging/setLevel", types.SetLevelRequestParams, self._set_level),
            ]
            server.add_notification_handler(
                "notifications/roots/list_changed", types.NotificationParams, self._roots_changed
            )
        for method, params, handler in handlers:
            server.add_request_handler(method, params, handler)

    # --- tools -------------------------------------------------------------------------------------

    async def tools(self, context: ServerRequestContext[Any], cursor: str | None) -> types.ListToolsResult:
        """Return a page of the tools of the servers behind."""
        result = await self._list("tools", context, types.PaginatedRequestParams(cursor=cursor))
        assert isinstance(result, types.ListToolsResult)
        return result

    def schema_of(self, name: str) -> Mapping[str, Any] | None:
        """Return the schema of the arguments of a tool that was listed, or None."""
        return self._schemas.get(name)

    async def call_tool(
        self, context: ServerRequestContext[Any], params: types.CallToolRequestParams, unknown: str
    ) -> types.CallToolResult | types.InputRequiredResult:
        """Call a tool of a server behind. What keeps a result from coming is a result that says so.

        :param unknown: what a caller of a tool that does not exist is told.
        """

        async def call(gateway: Gateway, person: Person) -> types.CallToolResult:
            try:
                given = RequestExtras.of(params, _meta_of(context))
                result = await gateway.call_tool(params.name, params.arguments or {}, given, person)
            except AgentdError as error:
                return types.CallToolResult(content=[types.TextContent(text=str(error))], is_error=True)
            if result is None:
                raise MCPError(types.INVALID_PARAMS, unknown)
            return result

        return await self._serve(context, params, call)

    # --- lists, prompts, resources -----------------------------------------------------------------

    async def _list(
        self, kind: Kind, context: ServerRequestContext[Any], params: types.PaginatedRequestParams
    ) -> types.PaginatedResult:
        gateway = await self._gateway(context)
        listed = await gateway.listed(kind, anew=params.cursor is None)
        if kind == "tools":
            self._schemas = {tool.name: tool.input_schema for tool in listed.items}
        try:
            items, cursor = listed.page(params.cursor)
        except ValueError:
            raise MCPError(types.INVALID_PARAMS, f"cursor: {params.cursor!r:.80} is none of ours") from None
        return RESULTS[kind](**{kind: items, "next_cursor": cursor})

    async def _get_prompt(self, context: ServerRequestContext[Any], params: Any) -> Any:
        asked = RequestExtras.of(params, _meta_of(context))
        return await self._serve(
            context, params, lambda gateway, person: gateway.get_prompt(params, asked, person)
        )

    async def _read_resource(self, context: ServerRequestContext[Any], params: Any) -> Any:
        asked = RequestExtras.of(params, _meta_of(context))
        return await self._serve(
            context, params, lambda gateway, person: gateway.read_resource(params, asked, person)
        )

    async def _complete(
        self, context: ServerRequestContext[Any], params: types.CompleteRequestParams
    ) -> types.CompleteResult:
        gateway = await self._gateway(context)
        return await self._serving.read(context, lambda: _refusing(gateway.complete(params)))

    async def _serve(
        self,
        context: ServerRequestContext[Any],
        params: Any,
        work: Callable[[Gateway, Person], Awaitable[R]],
    ) -> R | types.InputRequiredResult:
        sandbox = await self._sandbox(context)
        gateway = self._gateway_of(sandbox, context)

        async def done(person: Person) -> R:
            return await _refusing(work(gateway, person))

        return await self._serving.read(
            context, lambda: self._serving.ask_meanwhile(context, params, sandbox, done)
        )

    # --- what clients hear by themselves -----------------------------------------------------------

    async def _subscribe(
        self, context: ServerRequestContext[Any], params: types.SubscribeRequestParams
    ) -> types.EmptyResult:
        gateway = await self._gateway(context)
        if params.uri not in gateway.subscribed:
            await _refusing(gateway.subscribed.add(params.uri))
        return types.EmptyResult()

    async def _unsubscribe(
        self, context: ServerRequestContext[Any], params: types.UnsubscribeRequestParams
    ) -> types.EmptyResult:
        (await self._gateway(context)).subscribed.forget(params.uri)
        return types.EmptyResult()

    async def _listen(
        self, context: ServerRequestContext[Any], params: types.SubscriptionsListenRequestParams
    ) -> types.SubscriptionsListenResult:
        gateway = await self._gateway(context)
        wanted = params.notifications
        uris = (wanted.resource_subscriptions or ()) if "resources" in self.kinds else ()
        async with gateway.subscribed.wanted(uris) as told:
            told_of = wanted.model_copy(
                update={
                    "resource_subscriptions": told,
                    **{f"{kind}_list_changed": False for kind in KINDS if kind not in self.kinds},
                }
            )
            with gateway.listens():
                return await gateway.listen(context, params.model_copy(update={"notifications": told_of}))

    async def _set_level(
        self, context: ServerRequestContext[Any], params: types.SetLevelRequestParams
    ) -> types.EmptyResult:
        await (await self._gateway(context)).set_level(params.level)
        return types.EmptyResult()

    async def _roots_changed(self, context: ServerRequestContext[Any], _: object) -> None:
        await (await self._gateway(context)).tell_roots()

    # --- where -------------------------------------------------------------------------------------

    async def _sandbox(self, context: ServerRequestContext[Any]) -> ClientSandbox:
        try:
            return await self._serving.find(context)
        except AgentdError as error:
            raise MCPError(types.INTERNAL_ERROR, str(error)) from error

    async def _gateway(self, context: ServerRequestContext[Any]) -> Gateway:
        return self._gateway_of(await self._sandbox(context), context)

    def _gateway_of(self, sandbox: ClientSandbox, context: ServerRequestContext[Any]) -> Gateway:
        abilities = ClientAbilities.of(context)
        gateway = sandbox.gateway(abilities)
        if abilities.speaks_handshake:
            gateway.channel.session = context.session
        return gateway


async def _refusing(work: Awaitable[R]) -> R:
    """Await it, and have a client read what is wrong in an error of the protocol."""
    try:
        return await work
    except AgentdError as error:
        raise MCPError(types.INTERNAL_ERROR, str(error)) from error


def _meta_of(context: ServerRequestContext[Any]) -> Mapping[str, Any]:
    meta = (context.params or {}).get("_meta")
    return meta if isinstance(meta, Mapping) else {}

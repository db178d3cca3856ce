"""What one client is offered of the servers behind: their prompts and resources, and their tools if it is to have them.

Everything goes to the connections that the code of the client's sandbox uses, too, and comes back as it is.
"""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import anyio
import mcp_types as types
from agentd.errors import ToolError
from agentd_mcp_bridge.passing import Kind, PassedRequest, passed_request, set_level
from mcp.server.subscriptions import ListenHandler
from mcp.shared.exceptions import MCPError

from agentd_mcp_server import upstream_requests as requests
from agentd_mcp_server.naming import quoted
from agentd_mcp_server.offered_lists import GivenNames, OfferedList, OfferPlace, fits_template, of_servers
from agentd_mcp_server.own_connections import OwnConnections
from agentd_mcp_server.person import asking_person
from agentd_mcp_server.subscribed import SubscribedResources
from agentd_mcp_server.under_way import settled

if TYPE_CHECKING:
    from agentd.session.resources import SessionResources
    from agentd_mcp_bridge.source import McpSource

    from agentd_mcp_server.back_channel import BackChannel
    from agentd_mcp_server.person import Person
    from agentd_mcp_server.under_way import ClientRequest
    from agentd_mcp_server.upstream import Upstream

__all__ = ["Gateway"]

_log = logging.getLogger("agentd.mcp")
_LIST_S: Final = 30.0
_START_S: Final = 60.0  # a connection gives up before
_CONNECT_S: Final = 5.0
_NOT_FOUND: Final = (types.INVALID_PARAMS, -32002)  # -32002: up to 2025-11-25, for a resource


class Gateway:
    """The servers behind, for clients that can be asked the same.

    :param upstream: whose connections are used.
    :param gate: those whose tools the sandbox's code has, in the same order: their calls are what a policy knows. They
        are the same but for a client that differs from the sandbox's first one.
    :param taken: names of tools that are agentd's own.
    """

    def __init__(
        self,
        resources: SessionResources,
        upstream: Upstream,
        gate: Upstream,
        channel: BackChannel,
        taken: Collection[str],
    ) -> None:
        self.channel = channel
        self.upstream = upstream
        self._resources = resources
        self._gate = gate
        self._taken = taken
        self._lists: dict[Kind, OfferedList] = {}
        self._names = defaultdict[Kind, GivenNames](GivenNames)
        self.listen = ListenHandler(channel.bus)
        """Serves the requests that wait for changes (2026-07-28)."""
        self._listening = 0
        self._own: dict[int, OwnConnections] = {}
        self.subscribed = SubscribedResources(self._sources_having, channel)

    # --- lists -------------------------------------------------------------------------------------

    async def listed(self, kind: Kind, *, anew: bool = True) -> OfferedList:
        """Return what there is of a kind. A server that does not answer is left out, and the log names it.

        :param anew: ask, whatever is known.
        """
        if not anew and kind in self._lists:
            return self._lists[kind]
        with anyio.move_on_after(_CONNECT_S if self.upstream.has_asked else _START_S):
            await self.upstream.connect()
        servers = self.upstream.servers()
        offers: dict[int, Sequence[Any]] = {}

        async def ask(number: int, source: McpSource) -> None:
            with anyio.move_on_after(_LIST_S) as patience:
                try:
                    offers[number] = await source.offered(kind)
                except (ToolError, MCPError) as error:
                    _log.warning("the %s of %s are not offered now: %s", kind, source.name, error)
            if patience.cancelled_caught:
                _log.warning("%s has not listed its %s within %g s", source.name, kind, _LIST_S)

        async with anyio.create_task_group() as group:
            for number, source in servers.items():
                group.start_soon(ask, number, source)
        found = ((n, source.name, offers[n]) for n, source in servers.items() if n in offers)
        self._lists[kind] = made = of_servers(
            kind, found, self._taken if kind == "tools" else (), self._names[kind]
        )
        return made

    async def _find(self, kind: Kind, name: str) -> OfferPlace | None:
        """Return where something is; what is not known is looked for once more."""
        place = (await self.listed(kind, anew=False)).places.get(name)
        return (await self.listed(kind)).places.get(name) if place is None else place

    def _source(self, place: OfferPlace) -> McpSource:
        source = self.upstream.servers().get(place.server)
        if source is None:  # closed meanwhile
            raise MCPError(types.INTERNAL_ERROR, "the server behind is not used any more")
        return source

    # --- requests ----------------------------------------------------------------------------------

    async def call_tool(
        self, name: str, arguments: dict[str, Any], asked: requests.RequestExtras, person: Person
    ) -> types.CallToolResult | None:
        """Call a tool, through the policy and limits that hold for code, or return None if there is none of the name.

        :raises MCPError: the server's own; `ToolError` for everything else that keeps a result from coming.
        """
        place = await self._find("tools", name)
        if place is None:
            return None
        name_of_server = self._source(place).name

        async def progress(done: float, total: float | None, message: str | None) -> None:
            self.channel.soon(person.report, done, total, message)

        async def send(request: ClientRequest, client: Any) -> types.CallToolResult:
            answers = partial(self.channel.ask, name_of_server, during=request)
            return await requests.call_tool(client, place.name, arguments, asked, answers, progress)

        async with self._at(place.server, person, f"the call of its tool {quoted(place.name)}") as (
            source,
            request,
        ):
            passed = PassedRequest(f"{place.name}()", partial(send, request), source=source)
            reply = await self._through_gate(place, arguments, passed, person)
            request.is_answered = passed.result is not None or passed.error is not None
        if passed.error is not None:
            raise passed.error
        if passed.result is None or not (reply.ok or passed.result.is_error):
            said = json.loads(reply.payload)
            raise ToolError(f"{said['type']}: {said['message']}")
        return passed.result  # type: ignore[no-any-return]

    async def _through_gate(
        self, place: OfferPlace, arguments: dict[str, Any], passed: PassedRequest, person: Person
    ) -> Any:
        """Have the sandbox's tool set make a call, as if code had made it."""
        gate = self._gate.servers().get(place.server)
        own = self._known(gate, place.name)
        if own is None and gate is not None:  # it is new, and the tool set may not have heard of it yet
            gate.say_changed()
            await self._resources.changed()
            own = self._known(gate, place.name)
        tools = self._resources.tools
        if tools is None or own is None:
            raise ToolError(f"{place.name}() is not known to the sandbox; list the tools, and call it again")
        tokens = passed_request.set(passed), asking_person.set(person)
        try:
            return await tools.call_json(own, json.dumps(arguments).encode())
        finally:
            passed_request.reset(tokens[0])
            asking_person.reset(tokens[1])

    def _known(self, source: McpSource | None, tool: str) -> str | None:
        tools: Any = self._resources.tools
        return None if tools is None or source is None else tools.name_of(source, tool)

    async def get_prompt(
        self, params: types.GetPromptRequestParams, asked: requests.RequestExtras, person: Person
    ) -> types.GetPromptResult:
        """Get a prompt. :raises MCPError: if there is none of the name; the server's own."""
        place = await self._find("prompts", params.name)
        if place is None:
            raise MCPError(types.INVALID_PARAMS, f"there is no prompt {params.name!r:.200}")
        send = partial(requests.get_prompt, name=place.name, arguments=params.arguments, asked=asked)
        return await self._asked(place.server, f"the prompt {quoted(place.name)}", send, person)  # type: ignore[no-any-return]

    async def read_resource(
        self, params: types.ReadResourceRequestParams, asked: requests.RequestExtras, person: Person
    ) -> types.ReadResourceResult:
        """Read a resource: from the server that lists it, else from the first that has it."""
        send = partial(requests.read_resource, uri=params.uri, asked=asked)
        missing: MCPError | ToolError | None = None
        for number in await self._having_resource(params.uri):
            try:
                return await self._asked(number, f"reading {quoted(params.uri)}", send, person)  # type: ignore[no-any-return]
            except (MCPError, ToolError) as error:
                if not isinstance(missing, MCPError) or missing.error.code not in _NOT_FOUND:
                    missing = error
        raise missing or MCPError(types.INVALID_PARAMS, "Resource not found", {"uri": params.uri})

    async def _having_resource(self, uri: str) -> list[int]:
        """Return the servers that may have a resource: that which lists it, or those with a template for it, or all
        that have any."""
        known = (await self.listed("resources", anew=False)).places.get(uri)
        servers = self.upstream.servers()
        if known is not None and known.server in servers:
            return [known.server]
        templates = (await self.listed("resource_templates", anew=False)).places
        fitting = {place.server for template, place in templates.items() if fits_template(uri, template)}
        if fitting & servers.keys():
            return sorted(fitting & servers.keys())
        return [number for number, source in servers.items() if "resources" in source.capabilities]

    async def _sources_having(self, uri: str) -> list[McpSource]:
        numbers, servers = await self._having_resource(uri), self.upstream.servers()
        return [servers[number] for number in numbers if number in servers]

    async def _asked(
        self, number: int, what: str, send: Callable[..., Awaitable[Any]], person: Person
    ) -> Any:
        async with self._at(number, person, what) as (source, request):
            answers = partial(self.channel.ask, source.name, during=request)
            passed = PassedRequest(what, partial(send, answers=answers))
            try:
                return await source.pass_on(passed)
            finally:
                request.is_answered = passed.result is not None or passed.error is not None

    @asynccontextmanager
    async def _at(
        self, number: int, person: Person, what: str
    ) -> AsyncIterator[tuple[McpSource, ClientRequest]]:
        """A connection to a server for a request, and the request, which is under way while this is entered."""
        source = self._source(OfferPlace(number, ""))
        if self.channel.is_shared and not source.config.shared:
            if number not in self._own:
                self._own[number] = OwnConnections(source, self.channel)
            async with self._own[number].taken(person, what) as (own, request):
                yield own, request
            return
        async with self.channel.requests.turn(person, source.name, what, partial(settled, source)) as request:
            yield source, request

    async def complete(self, params: types.CompleteRequestParams) -> types.CompleteResult:
        """Complete an argument of a prompt or of a template of resources."""
        ref: types.PromptReference | types.ResourceTemplateReference = params.ref
        if isinstance(ref, types.PromptReference):
            place = await self._find("prompts", ref.name)
            ref = ref if place is None else ref.model_copy(update={"name": place.name})
        else:
            place = await self._find("resource_templates", ref.uri)
        if place is None:
            what = "prompt" if isinstance(ref, types.PromptReference) else "template of resources"
            raise MCPError(types.INVALID_PARAMS, f"completion: there is no such {what}")
        send = partial(requests.complete, ref=ref, params=params)
        return await self._source(place).pass_on(PassedRequest("completion", send))  # type: ignore[no-any-return]

    # --- what is told to all servers -----------------------------------------------------------------

    async def set_level(self, level: types.LoggingLevel) -> None:
        """Say from which level on the client wants log messages, also to servers that are opened (again) later."""
        self.upstream.keep_log_level(level)
        await self._tell_all("setting the log level", partial(set_level, level=level))

    async def tell_roots(self) -> None:
        """Say that the client's directories have changed."""
        await self._tell_all("telling of the roots", requests.tell_roots)

    async def _tell_all(self, what: str, send: Callable[[Any], Awaitable[None]]) -> None:
        async def tell(source: McpSource) -> None:
            with anyio.move_on_after(_LIST_S):
                try:
                    await source.pass_on(PassedRequest(what, send))
                except (ToolError, MCPError) as error:
                    _log.info("%s: %s", source.name, error)

        async with anyio.create_task_group() as group:
            for source in self.upstream.servers().values():
                group.start_soon(tell, source)

    # --- the end -------------------------------------------------------------------------------------

    @property
    def is_in_use(self) -> bool:
        """True while a request is under way, or a client waits to hear of changes."""
        return self.channel.is_working or len(self.subscribed) > 0 or self._listening > 0

    @contextmanager
    def listens(self) -> Iterator[None]:
        """While entered, a client waits for changes."""
        self._listening += 1
        try:
            yield
        finally:
            self._listening -= 1

    def close(self) -> None:
        """Tell the client nothing more."""
        self.listen.close()
        self.subscribed.close()
        self.channel.close()

    async def aclose(self) -> None:
        """End the connections that belong to nobody else."""
        for own in self._own.values():
            await own.aclose()

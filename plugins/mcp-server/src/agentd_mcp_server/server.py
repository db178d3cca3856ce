"""The MCP server: over standard input and output for one client, over HTTP for many."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

import anyio
from agentd.errors import AgentdError
from agentd_cli.http.bounded_server import taken_in_time
from mcp.server.lowlevel import NotificationOptions, Server
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    CallToolRequestParams,
    CallToolResult,
    InputRequiredResult,
    ListToolsResult,
    PaginatedRequestParams,
)

from agentd_mcp_server import tools
from agentd_mcp_server.client_lines import MOST_BYTES, WRONG_ID, ClientLines, has_wrong_id, readable_id
from agentd_mcp_server.client_sandboxes import ClientSandboxes, name_of_session
from agentd_mcp_server.ended_sessions import ClosedStreams
from agentd_mcp_server.offering import UpstreamOffer
from agentd_mcp_server.reconnecting import Exchange, ReadCalls, ResumableManager
from agentd_mcp_server.serving import EXCHANGE, SESSION, RequestServing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agentd_cli.standard_streams import StandardInput, StandardOutput
    from mcp.server.context import ServerRequestContext
    from mcp.server.models import InitializationOptions

__all__ = ["http_application", "make_server", "serve_stdio"]

_log = logging.getLogger("agentd.mcp")
_RETRY_MS: Final = 1000  # when a client whose connection broke should come back
_MOST_SESSIONS: Final = 1000  # without a sandbox, one is a few objects
_ONCE: Final = (b"host", b"origin", b"authorization", SESSION.encode())
_CLOSING: Final = {"Connection": "close"}
"""With an answer before which the body was not read."""

_CLOSED_STREAMS: Final = ClosedStreams()

Scope = MutableMapping[str, Any]
Application = Callable[[Scope, Any, Any], Awaitable[None]]


def make_server(
    sandboxes: ClientSandboxes,
    *,
    version: str,
    is_http: bool,
    keeps_python: bool,
    offer: frozenset[str] = frozenset(),
) -> Server[Any]:
    """Return a server whose clients work at these sandboxes.

    :param offer: what of the servers behind clients are offered: any of `tools`, `prompts` and `resources`.
    """
    serving = RequestServing(sandboxes, is_http=is_http)
    upstream = UpstreamOffer(serving, offer)

    async def list_tools(
        context: ServerRequestContext[Any], params: PaginatedRequestParams | None
    ) -> ListToolsResult:
        cursor = None if params is None else params.cursor
        named = serving.names_sandboxes(context)
        own = tools.listed(named=named, keeps_python=keeps_python) if cursor is None else []
        if "tools" not in offer:
            return ListToolsResult(tools=own)
        try:
            more = await upstream.tools(context, cursor)
        except MCPError as error:
            if cursor is not None:
                raise
            _log.warning("the tools of other servers are not listed: %s", error.message)
            return ListToolsResult(tools=own)
        return ListToolsResult(tools=[*own, *more.tools], next_cursor=more.next_cursor)

    async def call_tool(
        context: ServerRequestContext[Any], params: CallToolRequestParams
    ) -> CallToolResult | InputRequiredResult:
        if params.name in tools.NAMES:
            return await serving.read(context, partial(serve, context, params))
        if "tools" in offer:
            return await upstream.call_tool(context, params, tools.unknown(params.name))
        raise MCPError(INVALID_PARAMS, tools.unknown(params.name))  # the protocol's own error, as it says

    async def serve(
        context: ServerRequestContext[Any], params: CallToolRequestParams
    ) -> CallToolResult | InputRequiredResult:
        try:
            given = tools.check(params.name, params.arguments or {})
            sandbox = await serving.find(context, given.pop("sandbox"))
        except AgentdError as error:
            return tools.failed(f"{type(error).__name__}: {error}")
        work = partial(tools.carry_out, sandbox, params.name, given)
        return await serving.ask_meanwhile(context, params, sandbox, work)

    def schema_of(name: str) -> Mapping[str, Any] | None:
        return tools.schema_of(name) or upstream.schema_of(name)

    server = _AnnouncingServer(
        "agentd",
        version=version,
        title="agentd: code in a sandbox",
        instructions=tools.INSTRUCTIONS,
        get_tool_input_schema=schema_of,  # else the SDK lists all tools before each call over HTTP
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )
    server.announced = offer
    upstream.add_to(server)
    return server


class _AnnouncingServer(Server[Any]):
    """A server that says which of its lists may change; the transports of the SDK ask for that without a word."""

    announced: frozenset[str] = frozenset()

    def create_initialization_options(
        self, notification_options: NotificationOptions | None = None, *args: Any, **kwargs: Any
    ) -> InitializationOptions:
        """See the SDK."""
        changing = NotificationOptions(**{f"{kind}_changed": True for kind in self.announced})
        return super().create_initialization_options(notification_options or changing, *args, **kwargs)


async def serve_stdio(server: Server[Any], given: StandardInput, output: StandardOutput) -> None:
    """Serve one client over standard input and output, until it closes them."""
    from mcp.server.stdio import stdio_server

    # The SDK iterates over the one, and calls `write` and `flush` of the other.
    lines = ClientLines(given, output)
    async with stdio_server(cast(Any, lines), cast(Any, output)) as (read, write):
        await server.run(read, write, server.create_initialization_options())


def http_application(
    server: Server[Any],
    *,
    hosts: list[str],
    token: str,
    places: ClientSandboxes,
    sandboxes: int,
    reconnect_s: float,
    sessions: int = _MOST_SESSIONS,
    body_s: float = 30.0,
    stall_s: float = 60.0,
) -> Application:
    """Return the ASGI application: the MCP endpoint at `/mcp`, and `/health`.

    :param hosts: what the Host header may say, with the port; a web page that was led here by a name of its own is
        refused, and so is any Origin but these.
    :param token: what each request must bring as its bearer token; empty for none.
    :param places: the sandboxes; a client for which there is none is told when it begins a session.
    :param sandboxes: how many sandboxes may be open; `sessions`: how many sessions, as not each has one.
    :param reconnect_s: how long a call goes on whose client's connection broke.
    :param body_s: how long a request's body may take; `stall_s`: how long a client may take nothing of an answer.
    """
    from mcp.server.streamable_http_manager import StreamableHTTPASGIApp
    from mcp.server.transport_security import RequestBodyLimitMiddleware, TransportSecuritySettings
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    logging.getLogger("mcp.server.streamable_http").addFilter(_CLOSED_STREAMS)
    origins = [f"http://{host}" for host in hosts]
    manager = ResumableManager(
        server,
        security_settings=TransportSecuritySettings(allowed_hosts=hosts, allowed_origins=origins),
        max_request_body_size=MOST_BYTES,
        max_sessions=max(sessions, sandboxes),
        retry_interval=_RETRY_MS,
    )

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with manager.run():
            yield

    async def health(_: object) -> PlainTextResponse:
        return PlainTextResponse("ok")

    endpoint = _read(StreamableHTTPASGIApp(manager), ReadCalls(reconnect_s), places, manager.has)
    endpoint = _in_time(RequestBodyLimitMiddleware(endpoint, MOST_BYTES), body_s, stall_s)
    endpoint = _once(_with_token(endpoint, token))
    routes = [Route("/health", health), Route("/mcp", endpoint=_Endpoint(endpoint))]
    return Starlette(routes=routes, lifespan=lifespan)


class _Endpoint:
    """An object, which Starlette takes for an application; a function it would take for a view."""

    def __init__(self, application: Application) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        await self._application(scope, receive, send)


def _read(
    application: Application, readers: ReadCalls, places: ClientSandboxes, is_there: Callable[[str], bool]
) -> Application:
    """Have calls know whether somebody reads their answers, and sandboxes whether their client is connected; requests
    of one session have ids of their own, and none begins for which there is no place.

    :param is_there: tells whether there is a session of a name; what else is wrong does not matter if there is not.
    """

    async def serve(scope: Scope, receive: Any, send: Any) -> None:
        # A field's value has no spaces around it (RFC 9110, 5.5), but httptools hands on those behind it.
        headers = [(name, value.strip(b" \t")) for name, value in scope["headers"]]
        session = next((value for name, value in headers if name == SESSION.encode()), b"").decode("latin-1")
        exchange = Exchange(session, readers)
        scope = {**scope, "headers": headers, EXCHANGE: exchange}
        with exchange.entered():
            if session:
                exchange.enter(places.attended(name_of_session(session)))
            if scope["method"] != "POST":
                await application(scope, receive, send)
                return
            if not session:
                if wait_s := places.wait_s((scope.get("client") or ("",))[0]):
                    body, receive = await _body(receive)
                    if (_message(body) or {}).get("method") == "initialize":
                        await _no_place(wait_s)(scope, receive, send)
                        return
                await application(scope, receive, send)
                return
            body, again = await _body(receive)
            if not is_there(session):
                await application(scope, again, send)
                return
            if has_wrong_id(message := _message(body) or {}):
                await _refusal(readable_id(message), WRONG_ID)(scope, again, send)
                return
            request_id = _id_of(body)
            with nullcontext(True) if request_id is None else readers.sole(session, request_id) as is_sole:
                answer = application if is_sole else _taken(request_id)
                await answer(scope, again, send)

    return serve


async def _body(receive: Any) -> tuple[bytes, Any]:
    """Return what a request brings, which is bounded already, and what gives it once more."""
    messages: list[Any] = []
    while not messages or (messages[-1]["type"] == "http.request" and messages[-1].get("more_body")):
        messages.append(await receive())
    body = b"".join(message.get("body", b"") for message in messages)
    left = iter(messages)

    async def again() -> Any:
        return next(left, None) or await receive()

    return body, again


def _message(body: bytes) -> dict[str, Any] | None:
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):  # the SDK says what is wrong with it
        return None
    return message if isinstance(message, dict) else None


def _id_of(body: bytes) -> object:
    message = _message(body)
    return message.get("id") if message is not None and "method" in message else None


def _no_place(wait_s: float) -> Application:
    """Refuse a session that could do nothing."""
    from starlette.responses import PlainTextResponse

    text = f"all sandboxes are in use; try again in {wait_s:g} s\n"
    return PlainTextResponse(text, status_code=503, headers={"Retry-After": f"{wait_s:.0f}"})


def _taken(request_id: object) -> Application:
    text = (
        f"a request with the id {request_id!r:.80} is under way in this session; two clients cannot share a session "
        "unless their ids differ"
    )
    return _refusal(request_id, text)


def _refusal(request_id: object, text: str) -> Application:
    from starlette.responses import JSONResponse

    error = {"code": INVALID_REQUEST, "message": text}
    return JSONResponse({"jsonrpc": "2.0", "id": request_id, "error": error}, status_code=400)


def _once(application: Application) -> Application:
    """Refuse a request that says twice who asks: what stands before this server may have looked at the other one."""
    from starlette.responses import PlainTextResponse

    async def check(scope: Scope, receive: Any, send: Any) -> None:
        names = [name for name, _ in scope["headers"] if name in _ONCE]
        if len(names) == len(set(names)):
            await application(scope, receive, send)
            return
        twice = next(name for name in names if names.count(name) > 1).decode()
        refusal = PlainTextResponse(
            f"{twice}: is there twice; send it once\n", status_code=400, headers=_CLOSING
        )
        await refusal(scope, receive, send)

    return check


class _LateBodyError(Exception):
    """A request's body has not come in time."""


def _in_time(application: Application, body_s: float, stall_s: float) -> Application:
    """Bound how long a request's body takes to come, and its answer to be taken."""
    from starlette.responses import PlainTextResponse

    async def serve(scope: Scope, receive: Any, send: Any) -> None:
        send = taken_in_time(scope, send, stall_s)
        is_there = False

        async def body() -> Any:
            nonlocal is_there
            message = await receive()
            is_there = message["type"] != "http.request" or not message.get("more_body")
            return message

        async def in_time() -> Any:
            if is_there:  # what is waited for then is the client's end
                return await receive()
            with anyio.move_on_after(deadline - anyio.current_time()):
                return await body()
            raise _LateBodyError

        deadline = anyio.current_time() + body_s
        try:
            await application(scope, in_time, send)
        except _LateBodyError:
            late = PlainTextResponse(
                f"the body did not come within {body_s:g} s\n", status_code=408, headers=_CLOSING
            )
            await late(scope, receive, send)

    return serve


def _with_token(application: Application, token: str) -> Application:
    if not token:
        return application
    wanted = hashlib.sha256(token.encode()).digest()

    async def check(scope: Scope, receive: Any, send: Any) -> None:
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        scheme, _, brought = given.partition(b" ")
        is_bearer = scheme.lower() == b"bearer" and brought.strip() != b""
        if is_bearer and hmac.compare_digest(hashlib.sha256(brought.strip()).digest(), wanted):
            await application(scope, receive, send)
            return
        from starlette.responses import PlainTextResponse

        # RFC 6750, section 3: a request without a token is told no error code.
        challenge = 'Bearer error="invalid_token"' if is_bearer else "Bearer"
        told = "the bearer token is wrong" if is_bearer else "a bearer token is needed"
        refusal = PlainTextResponse(
            f"{told}: send `Authorization: Bearer TOKEN` with the token that this server was started with "
            "(--token-env)\n",
            status_code=401,
            headers={"WWW-Authenticate": challenge, **_CLOSING},
        )
        await refusal(scope, receive, send)

    return check

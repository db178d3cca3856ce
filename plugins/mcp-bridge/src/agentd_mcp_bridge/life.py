"""One life of a connection to a server: opened, kept, closed, by the one task that owns it.

Everything here runs in the MCP loop (`agentd_mcp_bridge.loop`), so that no lock is needed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

import anyio
import mcp_types as types
from agentd.errors import ToolError
from mcp import Client, MCPError
from mcp.client.extension import advertise
from mcp.client.subscriptions import ListenNotSupportedError, SubscriptionLost
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from agentd_mcp_bridge.callbacks import client_callbacks
from agentd_mcp_bridge.config import HttpTarget, ServerConfig, ServerTarget, StdioTarget, TransportTarget
from agentd_mcp_bridge.direct import DirectCalls
from agentd_mcp_bridge.errors import McpServerError
from agentd_mcp_bridge.events import EVENTS
from agentd_mcp_bridge.hearing import Hearing
from agentd_mcp_bridge.passing import ServedClient, served_callbacks, set_level
from agentd_mcp_bridge.stdio import StdioTransport
from agentd_mcp_bridge.watched import Watched

__all__ = ["Life", "ServerListener"]

_CLOSE_S: Final = 12.0  # a stdio server may take its grace, TERM and KILL
_RELISTEN_S: Final = 1.0
_LEVEL_S: Final = 5.0
_LIST_CHANGES = (
    types.ToolListChangedNotification,
    types.ResourceListChangedNotification,
    types.PromptListChangedNotification,
)
Notified = Callable[[Any], Awaitable[None]]


class ServerListener:
    """Whom a connection tells what its server says. The attributes are set by the source."""

    def __init__(self) -> None:
        self.changed: Callable[[], None] = lambda: None
        self.log: Callable[[str, str], None] = lambda level, text: None
        self.notified: list[Notified] = []
        """More functions that get every notification, for subscriptions to resources."""
        self.client: ServedClient | None = None
        """The MCP client on whose behalf the server is used, if there is one."""
        self.level: types.LoggingLevel | None = None
        """From which level on it wants log messages, if it has said so."""


class Life:
    """One life of a connection, from opening to its end; `run` is the owner task."""

    def __init__(self, config: ServerConfig, listener: ServerListener) -> None:
        self.config = config
        self.ready = anyio.Event()
        self.ended = anyio.Event()
        self.client: Any = None
        """The open `mcp.Client`, or the object of openai-agents; None before and after."""
        self.failure: Exception | None = None
        """Why it could not be opened, or has ended by itself."""
        self.closing = False
        self.lived_s = 0.0
        """How long it was open, once it has ended: nothing if it was being started for ever so long."""
        self.refused = False
        """Whether the server has refused to be opened, which an older handshake may change."""
        self._listener = listener
        self._stop = anyio.Event()
        self._scope = anyio.CancelScope()
        self._stdio: StdioTransport | None = None
        self._broken = False
        self._opened_at = 0.0
        self.direct: DirectCalls | None = None
        """Calls past the SDK, once the backend has set them up; see `pipe`."""
        self.hearing: Hearing | None = None
        """Whether what the server says by itself arrives, where it has a connection of its own."""

    @property
    def usable(self) -> bool:
        """Whether calls may go there, or wait for it to open."""
        return not (self._broken or self.closing or self.ended.is_set())

    @property
    def over(self) -> anyio.Event:
        """Set once it is of no use any more; `ended` follows when everything is closed."""
        return self._stop

    @property
    def pipe(self) -> StdioTransport | None:
        """The server's pipes, if calls may share them with the SDK. With 2026-07-28, where each request carries
        what the handshake said before, only once it is known what that is."""
        client = self.client
        if self._stdio is None or not self._stdio.is_utf8 or client is None:
            return None
        if client.protocol_version in MODERN_PROTOCOL_VERSIONS and not self._stdio.envelope:
            return None
        return self._stdio

    def stop(self) -> None:
        """End it, soon."""
        self.closing = True
        self._end_within(_CLOSE_S)

    def broke(self) -> None:
        """Note that the connection is of no use any more: it will be closed."""
        self._broken = True
        self._end_within(_CLOSE_S)

    def _end_within(self, seconds: float) -> None:
        self._refuse_direct()
        now = asyncio.get_running_loop().time()  # as anyio.current_time(), but in callbacks as well
        self._scope.deadline = min(self._scope.deadline, now + seconds)
        self._stop.set()
        if not self.ready.is_set() and self.closing:
            self._scope.cancel()

    async def run(self) -> None:
        """Open the connection, keep it until told otherwise, close it. Never raises but when cancelled."""
        name = self.config.name
        try:
            with self._scope:
                # One scope for all of it: contexts must be left in the reverse order of entering.
                self._scope.deadline = anyio.current_time() + self.config.start_timeout_s
                await self._open_and_keep()
            if self._scope.cancelled_caught and not self.ready.is_set() and not self.closing:
                self._explain(f"did not answer within {self.config.start_timeout_s:g} s of its start")
        except Exception as error:
            died = self._stdio is not None and self._stdio.died_of_discovery
            self.refused = not self.ready.is_set() and (died or _is_refusal(error))
            if not self.closing:
                self._explain(_in_words(error), error)
        else:
            if self._broken and self.failure is None:
                self._explain("")
        finally:
            self._broken = True
            self._refuse_direct()
            if self.failure is None and not self.ready.is_set():
                self.failure = McpServerError(name, "was closed while it was being opened")
            if self.client is not None:
                self.lived_s = time.monotonic() - self._opened_at
            self.client = None
            self._stop.set()
            self.ready.set()
            self.ended.set()

    def _refuse_direct(self) -> None:
        if self.direct is not None:
            self.direct.refuse()

    def _explain(self, problem: str, error: Exception | None = None) -> None:
        if self._stdio is not None:
            if self._stdio.fate and (not problem or _is_closed(error)):
                problem = self._stdio.fate
            problem = "; ".join([problem or "ended the connection", *self._stdio.details()])
        self.failure = McpServerError(self.config.name, problem or "ended the connection")
        self.failure.__cause__ = error

    async def _open_and_keep(self) -> None:
        from agentd_mcp_bridge.http import kinds_to_try

        target = self.config.target
        if not isinstance(target, HttpTarget):
            await self._with_transport(self._transport())
            return
        kind, *others = kinds_to_try(target)
        try:
            await self._with_transport(self._http_transport(target, kind))
        except Exception as error:
            if self.ready.is_set() or not others or not _wrong_kind(error):
                raise
            try:
                await self._with_transport(self._http_transport(target, others[0]))
            except Exception:
                if self.ready.is_set():
                    raise
                raise error from None  # that of the more likely transport tells more

    def _transport(self) -> Any:
        target = self.config.target
        if isinstance(target, StdioTarget):
            self._stdio = StdioTransport(
                target, name=self.config.name, max_message_bytes=self.config.max_message_bytes
            )
            return Watched(self._stdio, self.broke)
        if isinstance(target, TransportTarget):
            return Watched(target.transport() if target.factory else target.transport, self.broke)
        assert isinstance(target, ServerTarget)
        return target.server

    def _http_transport(self, target: HttpTarget, kind: str) -> AbstractAsyncContextManager[Any]:
        from agentd_mcp_bridge.http import sse_transport, streamable_transport

        limit = self.config.max_message_bytes
        self.hearing = None if kind == "sse" else Hearing()
        if self.hearing is None:
            return Watched(sse_transport(target, limit), self.broke)
        return Watched(streamable_transport(target, limit, self.hearing), self.broke)

    async def _with_transport(self, transport: Any) -> None:
        async with self._new_client(transport) as client, anyio.create_task_group() as group:
            await self._say_level(client)
            self._opened(client)
            group.start_soon(self._listen, client)
            await self._stop.wait()
            group.cancel_scope.cancel()

    def _opened(self, client: Any) -> None:
        self.client = client
        self._opened_at = time.monotonic()
        self._scope.deadline = float("inf")
        self.ready.set()

    def _new_client(self, transport: Any) -> Client:
        config, served = self.config, self._listener.client
        callbacks = {} if served is None else served_callbacks(config.name, served)
        callbacks |= client_callbacks(config, self._listener.log)
        return Client(
            transport,
            mode=config.protocol,
            cache=None,  # lists are fetched when somebody asks, which is when they have changed
            client_info=_client_info(),
            logging_callback=self._logged,
            log_level="info",  # 2026-07-28: no log messages without it
            message_handler=self._notified,
            extensions=[advertise(EVENTS)],
            **callbacks,
        )

    # --- what the server says by itself ----------------------------------------------------------

    async def _logged(self, params: types.LoggingMessageNotificationParams) -> None:
        data = params.data if isinstance(params.data, str) else _short_json(params.data)
        self._listener.log(params.level, f"{params.logger}: {data}" if params.logger else data)

    async def _say_level(self, client: Client) -> None:
        """Have the first request be answered with the log messages that are wanted, if the server answers this one."""
        if (level := self._listener.level) is not None:
            try:
                with anyio.move_on_after(_LEVEL_S):
                    await set_level(client, level)
            except (MCPError, ValueError) as error:  # ValueError: an answer that cannot be read
                self._listener.log("warning", f"the log level {level!r} was not taken: {error}")

    async def _notified(self, message: Any) -> None:
        if isinstance(message, _LIST_CHANGES):
            self._listener.changed()
        for tell in list(self._listener.notified):
            await tell(message)

    async def _listen(self, client: Client) -> None:
        """Ask for changes of the lists, which 2026-07-28 sends only to those who ask."""
        if client.protocol_version not in MODERN_PROTOCOL_VERSIONS:
            return
        capabilities = client.server_capabilities
        wanted: dict[str, Any] = {
            f"{kind}_list_changed": True
            for kind in ("tools", "prompts", "resources")
            if getattr(getattr(capabilities, kind), "list_changed", False)
        }
        while wanted:
            try:
                async with client.listen(**wanted) as subscription:
                    async for _ in subscription:
                        pass  # each arrives at `_notified` as well
                return  # the server has ended it in order
            except SubscriptionLost:
                await anyio.sleep(_RELISTEN_S)
                self._listener.changed()  # what happened meanwhile is not told again
            except (MCPError, ListenNotSupportedError, TimeoutError):
                return


def _is_refusal(error: BaseException) -> bool:
    """Tell whether a server has answered that it does not want to."""
    if isinstance(error, BaseExceptionGroup):
        return any(map(_is_refusal, error.exceptions))
    return isinstance(error, MCPError) and error.code not in (types.CONNECTION_CLOSED, types.REQUEST_TIMEOUT)


# --- errors in words ---------------------------------------------------------------------------


def _is_closed(error: Exception | None) -> bool:
    return error is not None and any(
        isinstance(e, MCPError) and e.code == types.CONNECTION_CLOSED for e in _leaves(error)
    )


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [error]


def _in_words(error: Exception) -> str:
    leaf = next((e for e in _leaves(error) if isinstance(e, Exception)), error)
    if isinstance(leaf, ToolError):
        return str(leaf)
    if isinstance(leaf, OSError) and not leaf.errno:
        return f"cannot be started: {leaf}"
    text = str(leaf)
    kind = type(leaf).__name__
    return f"cannot be used: {kind}: {text}" if text else f"cannot be used: {kind}"


def _wrong_kind(error: Exception) -> bool:
    """Tell whether a failure may mean that the server speaks the other HTTP transport."""
    import httpx2

    return any(isinstance(e, MCPError | httpx2.HTTPStatusError | httpx2.SSEError) for e in _leaves(error))


def _client_info() -> types.Implementation:
    from importlib.metadata import version

    return types.Implementation(name="agentd", version=version("agentd-mcp-bridge"))


def _short_json(data: object) -> str:
    import json

    return json.dumps(data, default=str)[:10_000]

"""uvicorn with bounds that it lacks: how many connections there are, how large the head of a request is and how long
it may take; what it writes in one pass of the event loop goes out in one piece."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any, Final, Literal

import anyio
import attrs
from uvicorn import Config, Server
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from agentd_cli.http.connections import ConnectionPlaces, peer_of

__all__ = ["BoundedServer", "ClientLink", "ConnectionLimits", "make_server", "taken_in_time"]

_KEEP_ALIVE_S: Final = 30
_MOST_HELD: Final = 64 * 1024
"""Bytes that wait for the pass to end."""
_CLOSE_S: Final = 3
_OFFER: Final = re.compile(rb"^upgrade[ \t]*:[^\r\n]*\r\n", re.IGNORECASE | re.MULTILINE)

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[MutableMapping[str, Any], Callable[[], Awaitable[Message]], Send], Awaitable[None]]
"""An ASGI application."""


@attrs.frozen(kw_only=True)
class ConnectionLimits:
    """What connections may take.

    :ivar connections: how many there are at once.
    :ivar silent: how many of them may have sent no request yet. Beyond, the oldest is closed.
    :ivar slow_s: after so many seconds, one whose request is still not all there makes room for others, too.
    :ivar head_bytes, head_s: of a request's line and headers: bytes, and seconds from the connection's begin.
    """

    connections: int = 1024
    silent: int = 256
    slow_s: float = 1.0
    head_bytes: int = 64 * 1024
    head_s: float = 15.0


class BoundedServer(Server):
    """Leaves signals to the command."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take none."""
        yield

    def install_signal_handlers(self) -> None:
        """Take none (older releases)."""


def taken_in_time(scope: MutableMapping[str, Any], send: Send, stall_s: float) -> Send:
    """Return a `send` that lets go of the connection if its client takes nothing of an answer for so long."""

    async def send_in_time(message: Message) -> None:
        with anyio.move_on_after(stall_s) as waiting:
            await send(message)
        if waiting.cancelled_caught:
            scope["state"]["transport"].abort()

    return send_in_time


class _GatheringTransport:
    """A transport that sends what is written in one pass of the event loop in one go: the head of an answer with its
    first piece, the last piece with the end. Else each would wake the client."""

    def __init__(self, transport: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held: list[bytes] = []
        self._held_bytes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Take bytes."""
        if not self._held:
            self._loop.call_soon(self.flush)
        self._held.append(data)
        self._held_bytes += len(data)
        if self._held_bytes > _MOST_HELD:
            self.flush()

    def flush(self) -> None:
        """Send what there is, now."""
        if self._held:
            held, self._held, self._held_bytes = self._held, [], 0
            self._transport.write(b"".join(held))

    def close(self) -> None:
        """Send what there is, then close."""
        self.flush()
        self._transport.close()

    def abort(self) -> None:
        """Let go of the connection, and of what was not sent."""
        self._held.clear()
        self._transport.abort()


class ClientLink:
    """What an application may know of a connection, as `scope["state"]["link"]`.

    :ivar peer: who is at the other end; see `peer_of`.
    """

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self._is_gone = False
        self._told: list[Callable[[], object]] = []

    @contextlib.contextmanager
    def watched(self, on_gone: Callable[[], object]) -> Iterator[None]:
        """Have a function called if the connection ends meanwhile. The next request may begin before this one has put
        away what it had, so there may be several.

        ASGI's `receive` tells it to a task of its own, which takes longer to make than a request takes to read."""
        self._told.append(on_gone)
        if self._is_gone:
            on_gone()
        try:
            yield
        finally:
            self._told.remove(on_gone)

    def end(self) -> None:
        """Tell that it has ended."""
        self._is_gone = True
        for on_gone in list(self._told):
            on_gone()


def make_server(
    application: Application, limits: ConnectionLimits, *, lifespan: Literal["on", "off"] = "off"
) -> BoundedServer:
    """Return the server of an application.

    :param lifespan: `on` if the application has something to open and to close (ASGI's lifespan protocol).
    """
    places = ConnectionPlaces(most=limits.connections, silent=limits.silent, slow_s=limits.slow_s)

    class BoundedProtocol(HttpToolsProtocol):
        """One connection. `scope["state"]["transport"]` lets go of it, or sends what there is now (`flush`),
        `scope["state"]["flow"]` tells whether its client takes what it is sent (`write_paused`), and
        `scope["state"]["link"]` is its `ClientLink`.

        The parser bounds nothing, so a head is bounded here: by what was read of one that is not complete (a trailer
        and what stands around the pieces of a body count alike), and by the fields of one that is. Nor does it read the
        body of a request that offers another protocol, as Java's client does: so it is not shown the offer, unless that
        came together with a request before it."""

        _held = b""  # of a head that the parser has seen nothing of
        _has_begun = False
        _is_in_head = False
        _unused_bytes = 0
        _head_bytes = 0
        _head_timer: asyncio.TimerHandle | None = None
        _peer = ""
        _link: ClientLink | None = None
        _served: Any = None  # the request that is answered; `cycle` is the last one that has come

        def connection_made(self, transport: Any) -> None:
            transport = _GatheringTransport(transport, self.loop)
            super().connection_made(transport)
            # asyncio does it for sockets that it has made itself, and so know their protocol.
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._peer = peer_of(transport)
            self._link = ClientLink(self._peer)
            self.app_state = {
                **self.app_state,
                "transport": transport,
                "flow": self.flow,
                "link": self._link,
            }
            self._head_timer = self.loop.call_later(limits.head_s, self._look)
            places.enter(self, self._peer)

        def data_received(self, data: bytes) -> None:
            self._unused_bytes += len(data)
            if not self._has_begun:
                data = self._head_and_more(data)
            if data:
                super().data_received(data)
            else:
                self._unset_keepalive_if_required()
            if self._unused_bytes > limits.head_bytes and not self.transport.is_closing():
                self.send_400_response("The head of the request is too long.")
            if self.cycle is not None and not self.cycle.response_complete:
                self._note_request()

        def _head_and_more(self, data: bytes) -> bytes:
            """Return what has come if a whole head has, without what offers another protocol; nothing else."""
            seen = max(len(self._held) - 3, 0)
            self._held += data
            end = self._held.find(b"\r\n\r\n", seen) + 2
            if end < 2:
                return b""
            whole, self._held = self._held, b""
            return _OFFER.sub(b"", whole[:end]) + whole[end:]

        def on_message_begin(self) -> None:
            self._has_begun = self._is_in_head = True
            self._head_bytes = 0
            super().on_message_begin()

        def on_url(self, url: bytes) -> None:
            self._head_bytes += len(url)
            super().on_url(url)

        def on_header(self, name: bytes, value: bytes) -> None:
            if self._is_in_head:  # else it is a trailer, which nobody asks for
                self._head_bytes += len(name) + len(value)
                super().on_header(name, value)

        def on_headers_complete(self) -> None:
            self._is_in_head = False
            self._unused_bytes = 0
            if self._head_bytes > limits.head_bytes:
                raise ValueError("the head is too long")  # to the parser, which gives up then
            super().on_headers_complete()
            if not self.pipeline:
                self._served = self.cycle
            elif len(self.pipeline) == 1:
                self.flow.resume_reading()  # else the end of the connection would not be seen

        def on_body(self, body: bytes) -> None:
            self._unused_bytes = 0
            super().on_body(body)

        def on_message_complete(self) -> None:
            self._unused_bytes = 0
            self._has_begun = False
            super().on_message_complete()

        def _note_request(self) -> None:
            if self.cycle.more_body:
                places.bring(self, self._peer)
            else:
                places.ask(self)

        def on_response_complete(self) -> None:
            places.rest(self, self._peer)
            if self.pipeline:
                self._served = self.pipeline[-1][0]
            super().on_response_complete()
            if not self.cycle.response_complete:  # the next request was there
                self._note_request()

        def connection_lost(self, exc: Exception | None) -> None:
            if self._head_timer is not None:
                self._head_timer.cancel()
            places.leave(self)
            super().connection_lost(exc)
            if self._served is not None and not self._served.response_complete:
                # uvicorn tells only the last request that has come.
                self._served.disconnected = True
                self._served.message_event.set()
            if self._link is not None:
                self._link.end()

        def _look(self) -> None:
            """Close a connection on which no request has come, or the head of the next one comes too slowly."""
            waits = (
                self.timeout_keep_alive_task is not None
            )  # for a next request, which has a time of its own
            is_served = self.cycle is not None and not self.cycle.response_complete
            if self.cycle is None or not (is_served or waits):
                self.transport.abort()
                return
            self._head_timer = self.loop.call_later(limits.head_s, self._look)

    config = Config(
        application,
        http=BoundedProtocol,
        ws="none",
        loop="none",
        lifespan=lifespan,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_CLOSE_S,
    )
    return BoundedServer(config)

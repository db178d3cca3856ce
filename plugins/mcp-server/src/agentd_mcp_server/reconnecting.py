"""A client whose connection breaks while its call runs (revisions up to 2025-11-25).

Their transport says that a broken connection is no cancellation, and that a client may come back for the stream with
the id of the last event that it has (`Last-Event-ID`). So events are kept for a while, a call goes on for as long as
a client may take to come back, and ends then. In the revision 2026-07-28 a client cancels by closing the connection;
the SDK ends the call by itself.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Container, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import ContextVar
from math import inf
from typing import Any, Final

import anyio
import attrs
from mcp.server.streamable_http import EventCallback, EventId, EventMessage, EventStore, StreamId
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp_types import JSONRPCMessage

from agentd_mcp_server.ended_sessions import SessionRequests

__all__ = ["Exchange", "ReadCalls", "ResumableManager", "SessionEvents"]

_MOST_EVENTS: Final = 1000
_MOST_BYTES: Final = 4 << 20
_LIVE_S: Final = 2.0
_LOOK_S: Final = 0.01
_SESSION: Final = b"mcp-session-id"
_AROUND: Final = 1 << 10  # bytes that an event has besides its text

_current: ContextVar[Exchange | None] = ContextVar("agentd_mcp_exchange", default=None)


@attrs.define(eq=False)
class _ReadCall:
    """A call, and the connection on which its client reads of it."""

    scope: anyio.CancelScope
    exchange: Exchange


class ReadCalls:
    """The calls of all sessions that somebody reads, or may come back to read.

    :param patience_s: how long a client whose connection broke may take to come back.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._calls: dict[tuple[str, str], _ReadCall] = {}
        self._open: set[tuple[str, str]] = set()

    @contextmanager
    def sole(self, session: str, request_id: object) -> Iterator[bool]:
        """Yield False if a request of this id is under way in the session: two cannot be told from each other."""
        key = (session, str(request_id))
        if key in self._open or key in self._calls:
            yield False
            return
        self._open.add(key)
        try:
            yield True
        finally:
            self._open.discard(key)

    @contextmanager
    def reading(self, exchange: Exchange, request_id: object) -> Iterator[anyio.CancelScope]:
        """While entered, a call of this exchange is cancelled when its client has been gone for too long."""
        key = (exchange.session, str(request_id))
        with anyio.CancelScope() as scope:
            call = self._calls[key] = _ReadCall(scope, exchange)
            exchange.calls.append(call)
            if exchange.is_over:
                self.ended(exchange)
            try:
                yield scope
            finally:
                if self._calls.get(key) is call:
                    del self._calls[key]

    def resumed(self, exchange: Exchange, stream: str) -> None:
        """A client has come back for what a call's stream says."""
        call = self._calls.get((exchange.session, stream))
        if call is not None:
            call.exchange = exchange
            call.scope.deadline = inf
            exchange.calls.append(call)

    def ended(self, exchange: Exchange) -> None:
        """A connection has ended, with its answer or without."""
        exchange.is_over = True
        for call in exchange.calls:
            if call.exchange is exchange:
                call.scope.deadline = anyio.current_time() + self._patience_s


class Exchange:
    """One HTTP request and the connection that answers it.

    :param session: what its header says.
    """

    def __init__(self, session: str, readers: ReadCalls) -> None:
        self.session = session
        self.readers = readers
        self.calls: list[_ReadCall] = []
        self.is_over = False
        self._stack = ExitStack()

    def enter(self, manager: AbstractContextManager[object]) -> None:
        """Enter something that is left when the connection has ended."""
        if not self.is_over:
            self._stack.enter_context(manager)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """While entered, this is the exchange in which events are replayed."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)
            self.readers.ended(self)
            self._stack.close()


@attrs.frozen(eq=False)
class _Event:
    id: EventId
    stream: StreamId
    message: JSONRPCMessage | None
    size: int


class SessionEvents(EventStore):
    """The newest events of one session, as many as have room.

    Between the replay of a stream and its going on live, the SDK sends the client an event, and a message of the server
    would reach neither. It waits here until the stream is live, for a moment: who does not read holds up himself alone.

    :param live: returns the streams that are read, by name.
    """

    def __init__(self, live: Callable[[SessionEvents], Container[object]] = lambda _: ()) -> None:
        self._live = live
        self._replayed: set[StreamId] = set()
        self._events: deque[_Event] = deque()
        self._bytes = 0

    async def store_event(self, stream_id: StreamId, message: JSONRPCMessage | None) -> EventId:
        """Keep an event and return its id, which nobody can guess."""
        if message is not None and stream_id in self._replayed:
            with anyio.move_on_after(_LIVE_S):
                while stream_id not in self._live(self):
                    await anyio.sleep(_LOOK_S)
            self._replayed.discard(stream_id)
        size = _AROUND
        if message is not None:
            size += len(message.model_dump_json(by_alias=True, exclude_unset=True))
        event = _Event(secrets.token_urlsafe(12), stream_id, message, size)
        self._events.append(event)
        self._bytes += size
        while len(self._events) > 1 and (self._bytes > _MOST_BYTES or len(self._events) > _MOST_EVENTS):
            self._bytes -= self._events.popleft().size
        return event.id

    async def replay_events_after(
        self, last_event_id: EventId, send_callback: EventCallback
    ) -> StreamId | None:
        """Send what came after an event in its stream, and what comes meanwhile; return the stream, or None if it is
        not kept any more."""
        last = next((event for event in self._events if event.id == last_event_id), None)
        if last is None:
            return None
        exchange = _current.get()
        if exchange is not None:
            exchange.readers.resumed(exchange, last.stream)
        while events := self._behind(last):
            for event in events:
                if event.message is not None:
                    await send_callback(EventMessage(event.message, event.id))
            last = events[-1]
        self._replayed.add(last.stream)
        return last.stream

    def _behind(self, last: _Event) -> list[_Event]:
        """Return the events of a stream behind one of it; all that are kept if that one is not any more."""
        known = list(self._events)
        place = known.index(last) + 1 if last in known else 0
        return [event for event in known[place:] if event.stream == last.stream]


class ResumableManager(StreamableHTTPSessionManager):
    """Sessions that each have a store of events of their own: the SDK names a stream by its request's id alone, which
    two sessions may share."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._requests = SessionRequests()

    def has(self, session: str) -> bool:
        """Tell whether there is a session of this name."""
        return session in self._server_instances

    async def _handle_stateful_request(self, scope: Any, receive: Any, send: Any) -> None:
        """See the SDK."""
        serve = super()._handle_stateful_request
        session = next((value for name, value in scope["headers"] if name == _SESSION), b"").decode("latin-1")
        transport = self._server_instances.get(session)
        if transport is None or scope["method"] == "DELETE":
            await serve(scope, receive, send)
            return

        async def answer(send: Any) -> None:  # also says that there is no such session
            await serve(scope, receive, send)

        await self._requests.serve(session, lambda: transport.is_terminated, answer, send)

    async def _discard_session(self, session_id: str, transport: Any) -> None:
        """See the SDK."""
        await super()._discard_session(session_id, transport)
        self._requests.end(session_id)

    @property
    def event_store(self) -> EventStore | None:
        """A new store: the SDK asks once for each session that it makes."""
        return SessionEvents(self._streams)

    @event_store.setter
    def event_store(self, value: Any) -> None:
        """What the SDK's `__init__` sets is not used."""

    def _streams(self, store: EventStore) -> Container[object]:
        """Return the streams of a session that are read."""
        sessions = self._server_instances.values()
        return next((one._request_streams for one in sessions if one._event_store is store), ())

    def _admit_session(self, requestor: Any) -> Any:
        """See the SDK, which refuses sessions beyond the most: clients that go without a word would keep out all others
        for half an hour, so the one that has been idle for longest ends."""
        if self.max_sessions is not None and len(self._server_instances) >= self.max_sessions:
            idle = [
                (transport.idle_scope.deadline, name)
                for name, transport in self._server_instances.items()
                if transport.idle_scope is not None and transport.idle_scope.deadline < inf
            ]
            if idle:
                scope = self._server_instances.pop(min(idle)[1]).idle_scope
                assert scope is not None
                scope.cancel()
        return super()._admit_session(requestor)

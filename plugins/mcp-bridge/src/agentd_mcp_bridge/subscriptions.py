"""Subscriptions to resources: who waits for which, and the task that keeps a connection for them."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final, NoReturn, Protocol

import anyio
import mcp_types as types
from agentd._concurrency.pool import unbounded_pool
from agentd.errors import ToolError
from agentd_tools.sources import SubscriptionState
from pydantic import AnyUrl

from agentd_mcp_bridge.connection import ServerConnection
from agentd_mcp_bridge.life import Life, ServerListener
from agentd_mcp_bridge.loop import McpLoop, mcp_loop

__all__ = ["Subscriptions", "Topic"]

OnEvent = Callable[[SubscriptionState], None]

_log: Final = logging.getLogger("agentd.mcp")
_PAUSE_S: Final = 1.0


class Subscriber:
    """One `on_event`, called in a thread of the pool: it may dawdle without holding up the MCP loop."""

    def __init__(self, on_event: OnEvent) -> None:
        self.ended = False
        self._on_event = on_event
        self._lock = threading.Lock()
        self._untold: deque[SubscriptionState] = deque()
        self._telling = False

    def tell(self, state: SubscriptionState) -> None:
        with self._lock:
            if not (self._untold and self._untold[-1] == state):  # nobody is helped by hearing it twice
                self._untold.append(state)
            if self._telling:
                return
            self._telling = True
        unbounded_pool.submit(self)

    def run(self) -> None:
        while (state := self._next()) is not None:
            try:
                self._on_event(state)
            except (Exception, SystemExit):
                _log.exception("on_event of a subscription raised on %r", state)

    def _next(self) -> SubscriptionState | None:
        with self._lock:
            if self._untold and not self.ended:
                return self._untold.popleft()
            self._telling = False
            return None


class Topic:
    """A URI that somebody subscribes to, and what was told of it last; in the MCP loop alone."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.spellings = _spellings(uri)
        self.subscribers: list[Subscriber] = []
        self.unwanted = anyio.Event()
        self.state: SubscriptionState | None = None
        """What whoever joins is told; None until it is known."""

    def tell(self, state: SubscriptionState) -> None:
        """Tell all subscribers."""
        if state != "changed":
            self.state = state
        for subscriber in self.subscribers:
            subscriber.tell(state)

    def covers(self, uri: str) -> bool:
        """Tell whether an update of `uri` is one of this resource: of itself, or of a part of it."""
        return any(uri == own or uri.startswith((f"{own.rstrip('/')}/", f"{own}#")) for own in self.spellings)


def _spellings(uri: str) -> frozenset[str]:
    """Return the URI as given and as servers on older SDKs send it back: normalised by pydantic."""
    try:
        return frozenset({uri, str(AnyUrl(uri))})
    except ValueError:
        return frozenset({uri})


class Subscribable(Protocol):
    """What is asked of the backend: the connection to keep; None if its server's changes cannot be heard."""

    config: Any
    listener: ServerListener

    async def subscribable(self) -> ServerConnection | None: ...


class Subscriptions:
    """All subscriptions at one server. `subscribe` and `close` are called from any thread, the rest runs in the
    MCP loop.

    One task keeps the connection open while there are topics. It ends with the last of them.

    :param ask_server: keeps the server's own subscriptions like the topics, for one life of the connection
        (`subscribing.subscribe_all`).
    """

    def __init__(
        self, backend: Subscribable, ask_server: Callable[[Subscriptions, Life], Awaitable[None]]
    ) -> None:
        self._backend = backend
        self._ask_server = ask_server
        self._closed = False
        backend.listener.notified.append(self._notified)
        self._start_anew(None)

    def _start_anew(self, loop: McpLoop | None) -> None:
        self._loop = loop
        self.topics: dict[str, Topic] = {}
        self.changed = anyio.Event()
        """Set, and replaced, whenever a topic comes or goes."""
        self._keeping = False
        self._trouble = ""
        self._waiting: anyio.CancelScope | None = None

    def subscribe(self, uri: str, on_event: OnEvent) -> Callable[[], None]:
        """See `agentd_tools.sources.SubscriptionSource`."""
        subscriber = Subscriber(on_event)
        loop = mcp_loop()

        async def begin() -> None:
            self._add(uri, subscriber, loop)

        async def end() -> None:
            self._remove(uri, subscriber)

        def unsubscribe() -> None:
            subscriber.ended = True
            if loop.alive:  # not in a forked child
                loop.post(end, lambda: None)

        loop.post(begin, lambda: None)
        return unsubscribe

    def close(self) -> None:
        """End all subscriptions, soon."""
        self._closed = True
        if self._loop is not None and self._loop.alive:
            self._loop.call_soon(self._clear)

    # --- in the MCP loop -------------------------------------------------------------------------

    def _add(self, uri: str, subscriber: Subscriber, loop: McpLoop) -> None:
        if self._closed or subscriber.ended:
            return
        if self._loop is not loop:  # the first time, or in a forked child
            self._start_anew(loop)
        topic = self.topics.get(uri)
        if topic is None:
            topic = self.topics[uri] = Topic(uri)
            self.wake()
        topic.subscribers.append(subscriber)
        if topic.state is not None:
            subscriber.tell(topic.state)
        if not self._keeping:
            self._keeping = True
            loop.post(self._keep, lambda: None)

    def _remove(self, uri: str, subscriber: Subscriber) -> None:
        topic = self.topics.get(uri)
        if topic is None or subscriber not in topic.subscribers:
            return
        topic.subscribers.remove(subscriber)
        if not topic.subscribers:
            del self.topics[uri]
            topic.unwanted.set()
            self.wake()

    def _clear(self) -> None:
        for topic in self.topics.values():
            for subscriber in topic.subscribers:
                subscriber.ended = True
            topic.unwanted.set()
        self.topics.clear()
        self.wake()

    def wake(self) -> None:
        """Have the keeper look again at what is wanted."""
        changed, self.changed = self.changed, anyio.Event()
        changed.set()
        if not self.topics and self._waiting is not None:
            self._waiting.cancel()

    def tell_all(self, state: SubscriptionState) -> None:
        """Tell the subscribers of all topics."""
        for topic in () if self._closed else list(self.topics.values()):
            topic.tell(state)

    async def _keep(self) -> None:
        try:
            while self.topics and not self._closed:
                try:
                    await self._keep_once()
                except Exception:  # out of here it would end the loop of all connections
                    _log.exception("the subscriptions at %r failed", self._backend.config.name)
                    self.tell_all("lost")
                    await anyio.sleep(_PAUSE_S)
        finally:
            self._keeping = False

    async def _keep_once(self) -> None:
        """Live through one life of the connection, or one failure to get one."""
        life = await self._opened()
        if life is None:
            return
        self._trouble = ""
        await self._live(life)
        if life.over.is_set():
            self.tell_all("lost")
            await life.ended.wait()  # as the next life does; then it is known why
            if life.failure is not None:
                self._complain(str(life.failure))

    async def _opened(self) -> Life | None:
        """Wait for a connection for as long as the back-off says; None: there was none to be had, or nobody waits."""
        try:
            with anyio.CancelScope() as self._waiting:
                connection = await self._backend.subscribable()
                if connection is None:
                    await self._without()
                return await connection.open()
        except ToolError as error:
            self.tell_all("lost")
            self._complain(str(error))
        finally:
            self._waiting = None
        return None

    def _complain(self, text: str) -> None:
        if text != self._trouble and not self._closed:  # once, though it is tried every 10 s
            self._trouble = text
            self._backend.listener.log("warning", text)

    async def _without(self) -> NoReturn:
        """Say to all who come that there are no subscriptions; cancelled when nobody is left."""
        while True:
            changed = self.changed
            for topic in self.topics.values():
                if topic.state is None:
                    topic.tell("unsupported")
            await changed.wait()

    async def _live(self, life: Life) -> None:
        async with anyio.create_task_group() as group:

            async def until_over() -> None:
                await life.over.wait()
                group.cancel_scope.cancel()

            group.start_soon(until_over)
            await self._ask_server(self, life)
            group.cancel_scope.cancel()

    async def _notified(self, message: Any) -> None:
        if isinstance(message, types.ResourceUpdatedNotification):
            uri = str(message.params.uri)
            for topic in list(self.topics.values()):
                if topic.covers(uri):
                    topic.tell("changed")

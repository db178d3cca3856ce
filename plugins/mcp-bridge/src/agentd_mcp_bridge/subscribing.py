"""How the server is told what is subscribed to, in the two eras of the protocol, during one life of a connection."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

import anyio
import mcp_types as types
from anyio.abc import TaskGroup, TaskStatus
from mcp import MCPError
from mcp.client.subscriptions import SubscriptionLost
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from agentd_mcp_bridge.connection import restart_backoff
from agentd_mcp_bridge.life import Life

if TYPE_CHECKING:
    from agentd_mcp_bridge.subscriptions import Subscriptions, Topic

__all__ = ["subscribe_all"]

_log: Final = logging.getLogger("agentd.mcp")
_ANSWER_S: Final = 60.0  # as for a tool call
_UNSUBSCRIBE_S: Final = 5.0
_TROUBLE: Final = (types.CONNECTION_CLOSED, types.REQUEST_TIMEOUT)
Outcome = Literal["stands", "refused", "lost"]


async def subscribe_all(subscriptions: Subscriptions, life: Life) -> None:
    """Keep the server's subscriptions like the topics, until there are none; cancelled when the life is over."""
    client = life.client
    if client is None:
        return
    era = _ByStream if client.protocol_version in MODERN_PROTOCOL_VERSIONS else _ByRequest
    await era(subscriptions, life, client).run()


class _ByRequest:
    """Up to 2025-11-25: a request for each URI. What then comes is told by `Listener.notified`.

    Servers on the Python SDK 1.x take these requests but do not announce that they do, so each is asked.
    """

    def __init__(self, subscriptions: Subscriptions, life: Life, client: Any) -> None:
        self._subscriptions = subscriptions
        self._life = life
        self._client = client
        self._answer_s = life.config.timeout_s or _ANSWER_S
        self._held: dict[str, Topic] = {}
        self._standing: set[Topic] = set()

    async def run(self) -> None:
        async with anyio.create_task_group() as group:
            if self._life.hearing is not None:
                group.start_soon(self._mind_gaps)
            while self._subscriptions.topics or self._held:
                changed = self._subscriptions.changed
                for uri, topic in self._subscriptions.topics.items():
                    if uri not in self._held:  # else it is just being given up, and comes after that
                        self._held[uri] = topic
                        group.start_soon(self._hold, topic)
                await changed.wait()
            group.cancel_scope.cancel()

    async def _hold(self, topic: Topic) -> None:
        """Subscribe, wait until nobody wants it any more, unsubscribe."""
        if await self._subscribed(topic):
            self._standing.add(topic)
            await topic.unwanted.wait()
            self._standing.discard(topic)
            with anyio.move_on_after(_UNSUBSCRIBE_S):
                await self._ask(_unsubscribe(topic.uri))
        else:
            await topic.unwanted.wait()
        del self._held[topic.uri]
        self._subscriptions.wake()

    async def _subscribed(self, topic: Topic) -> bool:
        backoff = restart_backoff()
        hearing = self._life.hearing
        while not topic.unwanted.is_set():
            outcome: Outcome = "refused"
            if hearing is None or await hearing.settled():
                outcome = await self._ask(_subscribe(topic.uri))
            if outcome != "lost":
                topic.tell("active" if outcome == "stands" else "unsupported")
                return outcome == "stands"
            topic.tell("lost")
            backoff.failed()
            with anyio.move_on_after(backoff.remaining_s()):
                await topic.unwanted.wait()
        return False

    async def _ask(self, request: types.SubscribeRequest | types.UnsubscribeRequest) -> Outcome:
        what = f"{request.method} of {request.params.uri!r} at {self._life.config.name!r}"
        try:
            with anyio.fail_after(self._answer_s):
                # by the session: the client's own methods warn of their age
                await self._client.session.send_request(request, types.EmptyResult)
        except MCPError as error:
            if error.message == "Session terminated":
                self._life.broke()
                return "lost"
            _log.debug("%s: %s", what, error)
            return "lost" if error.code in _TROUBLE else "refused"
        except TimeoutError:
            return "lost" if _announces(self._client) else "refused"
        except Exception as error:  # the SDK refuses what the server sent, by several kinds of errors
            _log.debug("%s: %s: %s", what, type(error).__name__, error)
            return "refused"
        return "stands"

    async def _mind_gaps(self) -> None:
        """Tell when the stream of a streamable HTTP server breaks, and when it is there again."""
        hearing = self._life.hearing
        assert hearing is not None
        openings = hearing.openings
        while True:
            changed = hearing.changed
            if hearing.state == "gone":
                self._life.broke()
            for topic in list(self._standing):
                if hearing.state == "lost":
                    topic.tell("lost")
                elif hearing.openings > openings:
                    topic.tell("active")
            openings = hearing.openings
            await changed.wait()


def _subscribe(uri: str) -> types.SubscribeRequest:
    return types.SubscribeRequest(params=types.SubscribeRequestParams(uri=uri))


def _unsubscribe(uri: str) -> types.UnsubscribeRequest:
    return types.UnsubscribeRequest(params=types.UnsubscribeRequestParams(uri=uri))


def _announces(client: Any) -> bool:
    resources = client.server_capabilities.resources
    return resources is not None and bool(resources.subscribe)


class _ByStream:
    """2026-07-28: one stream for all URIs. A change of them opens another one before the old one is left, so that
    no update is lost in between."""

    def __init__(self, subscriptions: Subscriptions, life: Life, client: Any) -> None:
        self._subscriptions = subscriptions
        self._life = life
        self._client = client
        self._stream: _Subscription | None = None
        self._refused: set[str] = set()
        self._backoff = restart_backoff()

    async def run(self) -> None:
        async with anyio.create_task_group() as group:
            while self._subscriptions.topics:
                changed = self._subscriptions.changed
                await self._follow(group)
                await changed.wait()
            group.cancel_scope.cancel()

    async def _follow(self, group: TaskGroup) -> None:
        """Have a stream for what is wanted now."""
        topics = self._subscriptions.topics
        current = self._stream
        if current is not None and current.ended:
            self._stream = None
            for uri in current.uris & topics.keys():
                topics[uri].tell("lost")
            self._backoff.failed(current.lived_s)
            await anyio.sleep(self._backoff.remaining_s())
            current = None
        self._refused &= topics.keys()
        wanted = frozenset(topics) - self._refused
        if wanted != (current.uris if current is not None else frozenset()):
            self._stream = await self._opened(wanted, group) if wanted else None
            if current is not None:
                current.leave()

    async def _opened(self, wanted: frozenset[str], group: TaskGroup) -> _Subscription | None:
        stream = await self._new_stream(wanted, group)
        if stream.outcome == "lost":
            return stream
        if stream.outcome == "refused":
            await self._sort_out(wanted, stream.code, group)
            return None
        topics = self._subscriptions.topics
        stream.uris = frozenset(
            u for u in wanted if u in topics and any(map(topics[u].covers, stream.honoured))
        )
        self._refuse(wanted - stream.uris)
        for uri in stream.uris:
            if topics[uri].state != "active":
                topics[uri].tell("active")
        return stream

    async def _sort_out(self, wanted: frozenset[str], code: int, group: TaskGroup) -> None:
        """Find out which of several URIs the server does not want to tell of."""
        refused = wanted
        if code != types.METHOD_NOT_FOUND and len(wanted) > 1:
            streams = [await self._new_stream(frozenset({uri}), group) for uri in wanted]
            for stream in streams:
                stream.leave()
            # none: they are too many for it together
            refused = frozenset().union(*(s.uris for s in streams if s.outcome == "refused")) or wanted
        self._refuse(refused)
        self._subscriptions.wake()

    async def _new_stream(self, uris: frozenset[str], group: TaskGroup) -> _Subscription:
        answer_s = self._life.config.timeout_s or _ANSWER_S
        stream = _Subscription(self._client, uris, answer_s, self._subscriptions.wake)
        await group.start(stream.run)
        return stream

    def _refuse(self, uris: frozenset[str]) -> None:
        self._refused |= uris
        for uri in uris & self._subscriptions.topics.keys():
            self._subscriptions.topics[uri].tell("unsupported")


class _Subscription:
    """One `subscriptions/listen` request."""

    def __init__(
        self, client: Any, uris: frozenset[str], answer_s: float, on_end: Callable[[], None]
    ) -> None:
        self.uris = uris
        self.honoured: Sequence[str] = ()
        self.outcome: Outcome = "lost"
        self.code = 0
        """The server's, where it refused."""
        self.ended = False
        self._client = client
        self._answer_s = answer_s
        self._on_end = on_end
        self._scope = anyio.CancelScope()
        self._began = anyio.current_time()

    @property
    def lived_s(self) -> float:
        """Seconds since it was asked for."""
        return anyio.current_time() - self._began

    def leave(self) -> None:
        """End it."""
        self._scope.cancel()

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        """Ask and read until the end; started when the server has acknowledged it or will not, see `outcome`."""
        with self._scope:
            try:
                await self._read(task_status)
            except MCPError as error:
                _log.debug("the server does not tell of %d resources: %s", len(self.uris), error)
                self.code = error.code
                if self.outcome == "lost" and error.code not in _TROUBLE:
                    self.outcome = "refused"
            except (SubscriptionLost, TimeoutError):
                pass
            except Exception as error:  # the SDK refuses what the server sent, by several kinds of errors
                _log.debug("listening to %d resources: %s: %s", len(self.uris), type(error).__name__, error)
        self.ended = True
        if self.outcome != "stands":
            task_status.started()
        self._on_end()

    async def _read(self, task_status: TaskStatus[None]) -> None:
        with anyio.fail_after(self._answer_s) as limit:
            async with self._client.listen(resource_subscriptions=sorted(self.uris)) as subscription:
                limit.deadline = float("inf")
                self.honoured = subscription.honored.resource_subscriptions or ()
                self.outcome = "stands"
                task_status.started()
                async for _ in subscription:
                    pass  # each arrives at `Listener.notified` as well

"""What somebody subscribes to at a server, and who they are."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

import anyio
from agentd._concurrency.pool import unbounded_pool
from agentd.protocols import SubscriptionState
from pydantic import AnyUrl

__all__ = ["OnEvent", "Subscriber", "Topic", "TopicTable"]

OnEvent = Callable[[SubscriptionState], None]

_log: Final = logging.getLogger("agentd.mcp")


class TopicTable(Protocol):
    """The topics of one server, as whoever keeps its subscriptions sees them."""

    topics: dict[str, Topic]
    changed: anyio.Event
    """Set, and replaced, whenever a topic comes or goes."""

    def wake(self) -> None:
        """Have the topics looked at again."""
        ...


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

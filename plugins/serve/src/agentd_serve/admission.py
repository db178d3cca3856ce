"""Which requests run: so many at once, so many more wait their turn, and none begins once the server is to end."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import anyio
import attrs

from agentd_serve.keys import ServedKey
from agentd_serve.refusals import RefusedRequestError

__all__ = ["Admission", "RequestPlace"]

_DRAIN_RETRY_S: Final = 5.0
_MOST_RETRY_S: Final = 60.0


@attrs.define(eq=False)
class _Turn:
    """A request that waits."""

    is_granted: bool = False
    event: anyio.Event = attrs.field(factory=anyio.Event)


@attrs.define(eq=False)
class RequestPlace:
    """The place of a request; one whose body comes slowly gives it up to another."""

    key: ServedKey
    peer: str
    scope: anyio.CancelScope = attrs.field(factory=anyio.CancelScope)
    reading_since: float = 0.0
    is_given_back: bool = False
    why: Exception | None = None

    def cancel(self, why: Exception) -> None:
        """End the request: where it has its place, this error is raised."""
        self.why = self.why or why
        self.scope.cancel()


class Admission:
    """Counts requests. Belongs to one event loop.

    :param most: how many run at once; `waiting`: how many more wait, for at most `wait_s` seconds.
    :param slow_s: a request whose body takes longer gives up its place when there is no other.
    """

    def __init__(self, *, most: int, waiting: int, wait_s: float, slow_s: float = 1.0) -> None:
        self._most = most
        self._waiting = waiting
        self._wait_s = wait_s
        self._slow_s = slow_s
        self._reading: dict[RequestPlace, None] = {}  # in the order in which they came
        self._running = 0
        self._queue: deque[_Turn] = deque()
        self._mean_s = 1.0  # of the last requests
        self._places: set[RequestPlace] = set()
        self._changed = anyio.Event()
        self.under_way = 0
        """Requests that run or wait."""
        self.is_draining = False

    @contextmanager
    def place(self, key: ServedKey, peer: str = "") -> Iterator[RequestPlace]:
        """Have a place for a request of a key, from before its body is read to its end.

        :param peer: who is at the other end of its connection.
        :raises RefusedRequestError: 429 if there is none, 503 if the server is to end.
        Raises what the request was cancelled for.
        """
        self.check_open()
        if key.max_requests is not None and key.under_way >= key.max_requests:
            raise _too_many(
                f"the key {key.name!r} has {key.under_way} requests under way", self._retry_after_s
            )
        if self.under_way >= self._most + self._waiting and not self._take_from_the_slow():
            raise _too_many("all places of this server and of its queue are taken", self._retry_after_s)
        self.under_way += 1
        key.under_way += 1
        place = RequestPlace(key, peer)
        self._places.add(place)
        try:
            with place.scope:
                yield place
            if place.why is not None and place.scope.cancelled_caught:
                raise place.why
        finally:
            self._places.discard(place)
            self._give_back(place)

    def _give_back(self, place: RequestPlace) -> None:
        if place.is_given_back:
            return
        place.is_given_back = True
        place.key.under_way -= 1
        self.under_way -= 1
        self._changed.set()
        self._changed = anyio.Event()

    @contextmanager
    def reading(self, place: RequestPlace) -> Iterator[None]:
        """Read a request's body.

        :raises RefusedRequestError: 408 if it came slowly, and another request needed the place.
        """
        place.reading_since = time.monotonic()
        self._reading[place] = None
        try:
            yield
        finally:
            self._reading.pop(place, None)
        if place.why is not None:  # though the rest of the body may have come just now
            raise place.why

    def end_slow(self, most_s: float) -> None:
        """End the requests whose body has not come within so many seconds."""
        since = time.monotonic() - most_s
        for place in [one for one in self._reading if one.reading_since <= since]:
            place.cancel(_too_slow(most_s))

    def _take_from_the_slow(self) -> bool:
        """Take the place of the oldest request whose body comes slowly, of the client that has most of them. Tell
        whether there was one."""
        since = time.monotonic() - self._slow_s
        slow = [one for one in self._reading if one.reading_since <= since]
        if not slow:
            return False
        ((most, _),) = Counter((one.key.name, one.peer) for one in slow).most_common(1)
        place = next(one for one in slow if (one.key.name, one.peer) == most)
        del self._reading[place]
        place.cancel(_too_slow(self._slow_s, ", and other requests needed its place; send it again"))
        self._give_back(place)
        return True

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for the request's turn, and run. Requests come in the order in which they asked.

        :raises RefusedRequestError: 429 if it has waited too long, 503 if the server is about to end.
        """
        await self._wait()
        began = time.monotonic()
        try:
            yield
        finally:
            self._mean_s += (time.monotonic() - began - self._mean_s) / 16
            self._release()

    async def _wait(self) -> None:
        self.check_open()  # its body may have come late
        if self._running < self._most:
            self._running += 1
            return
        turn = _Turn()
        self._queue.append(turn)
        try:
            with anyio.move_on_after(self._wait_s):
                await turn.event.wait()
        except BaseException:
            if turn.is_granted:
                self._release()
            elif turn in self._queue:  # else the server ends
                self._queue.remove(turn)
            raise
        if turn.is_granted:
            return
        if turn in self._queue:
            self._queue.remove(turn)
        self.check_open()
        raise _too_many(f"no place was free within {self._wait_s:g} s", self._retry_after_s)

    def _release(self) -> None:
        if not self._queue:
            self._running -= 1
            return
        turn = self._queue.popleft()
        turn.is_granted = True
        turn.event.set()

    @property
    def _retry_after_s(self) -> float:
        """About when a place will be free, by how long requests took and how many wait."""
        return min(_MOST_RETRY_S, self._mean_s * (1 + len(self._queue) / self._most))

    # --- the end -----------------------------------------------------------------------------------------

    def check_open(self) -> None:
        """:raises RefusedRequestError: if the server is to end."""
        if self.is_draining:
            raise _ending("this server is about to end")

    def drain(self) -> None:
        """Begin nothing more; what waits is refused, what runs goes on."""
        self.is_draining = True
        waiting, self._queue = self._queue, deque()
        for turn in waiting:
            turn.event.set()

    async def idle(self) -> None:
        """Wait until nothing runs."""
        while self.under_way:
            await self._changed.wait()

    def cancel(self) -> None:
        """End what there is."""
        for place in self._places:
            place.cancel(_ending("the server ended before the answer did"))


def _too_many(why: str, retry_after_s: float) -> RefusedRequestError:
    return RefusedRequestError(
        429,
        f"too many requests: {why}; try again in a moment",
        code="rate_limit_exceeded",
        type="rate_limit_error",
        retry_after_s=retry_after_s,
    )


def _too_slow(most_s: float, more: str = "") -> RefusedRequestError:
    return RefusedRequestError(408, f"the body did not come within {most_s:g} s{more}", code="body_timeout")


def _ending(what: str) -> RefusedRequestError:
    return RefusedRequestError(
        503, f"{what}; ask again in a moment", code="shutting_down", retry_after_s=_DRAIN_RETRY_S
    )

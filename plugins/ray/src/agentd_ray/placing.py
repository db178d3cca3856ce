"""Which host a session goes to, and the queue of those that wait for a place."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

import attrs

from agentd_ray.errors import FleetFullError
from agentd_ray.handle import HostHandle

__all__ = ["HostPlaces"]

QUIET_S: Final = 2.0


@attrs.frozen(eq=False)
class _PlaceWanted:
    needs: Mapping[str, float]
    prefer: str
    conversation: str
    found: asyncio.Future[HostHandle]


@attrs.define(eq=False)
class HostPlaces:
    """The hosts and their places.

    :param per_host: sessions that are open at once on one host.
    :param max_waiting: sessions that wait for a place at once; for one more, `FleetFullError` is raised.
    :param min_free_mib: memory that a machine must have left for one more session.
    :param make_room: called when nobody has a place: idle sessions may be put to sleep.
    """

    per_host: int
    max_waiting: int
    min_free_mib: int
    make_room: Callable[[int], None]
    hosts: dict[str, HostHandle] = attrs.field(factory=dict)
    _error: BaseException | None = attrs.field(default=None, init=False)
    _waiting: deque[_PlaceWanted] = attrs.field(factory=deque, init=False)
    _is_nudged: bool = attrs.field(default=False, init=False)

    @property
    def waiting(self) -> int:
        """How many sessions wait for a place."""
        return len(self._waiting)

    async def take(self, conversation: str, needs: Mapping[str, float], prefer: str = "") -> HostHandle:
        """Return the host on which a session may be opened; it has the place from then on.

        :param needs: resources of the node, as Ray names them.
        :param prefer: a node's id, taken if it has a place: the session's files are there.
        :raises FleetFullError: if nobody has one and too many wait.
        """
        if self._error is not None:
            raise self._error
        host = None if self._waiting else self._free(needs, prefer)
        if host is not None:
            return self._give(host, conversation, needs)
        if len(self._waiting) >= self.max_waiting:
            raise FleetFullError(self._full(conversation))
        waiting = _PlaceWanted(needs, prefer, conversation, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self.nudge()
        self.look()
        try:
            return await waiting.found
        except asyncio.CancelledError:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
            elif waiting.found.done() and not waiting.found.cancelled():
                self.release(waiting.found.result(), conversation, needs)
            raise

    def release(self, host: HostHandle, conversation: str, needs: Mapping[str, float]) -> None:
        """Give a place back."""
        if conversation in host.sessions:
            host.sessions.discard(conversation)
            for name, amount in needs.items():
                host.used[name] = host.used.get(name, 0.0) - amount
        self.look()

    def look(self) -> None:
        """Give places to those who wait, in their order: there are new ones."""
        for waiting in list(self._waiting):
            if not any(map(self._has_place, self.hosts.values())):
                return  # nor for all behind it: ten thousand may wait
            host = self._free(waiting.needs, waiting.prefer)
            if host is None:
                continue  # one that needs less may have a place
            self._waiting.remove(waiting)
            if not waiting.found.done():
                waiting.found.set_result(self._give(host, waiting.conversation, waiting.needs))

    def nudge(self) -> None:
        """A session is idle, or waits: one may have to make room for another. Of those that come together, the first
        asks for it; where a place is found, another one asks for all."""
        if self._waiting and not self._is_nudged:
            self._is_nudged = True
            asyncio.get_running_loop().call_soon(self._forget_nudge)
            self.make_room(len(self._waiting))

    def _forget_nudge(self) -> None:
        self._is_nudged = False

    def could_have(self, needs: Mapping[str, float]) -> bool:
        """Tell whether a host, if it were empty, had what a session needs."""
        return any(_fits(host, needs, {}) for host in self.hosts.values())

    def fail(self, error: BaseException) -> None:
        """Have all that wait hear of an error, and all that come."""
        self._error = error
        while self._waiting:
            if not (found := self._waiting.popleft().found).done():
                found.set_exception(error)

    def _give(self, host: HostHandle, conversation: str, needs: Mapping[str, float]) -> HostHandle:
        host.sessions.add(conversation)
        for name, amount in needs.items():
            host.used[name] = host.used.get(name, 0.0) + amount
        return host

    def _free(self, needs: Mapping[str, float], prefer: str) -> HostHandle | None:
        able = [
            host for host in self.hosts.values() if self._has_place(host) and _fits(host, needs, host.used)
        ]
        if not able:
            return None
        for host in able:
            if host.node.id == prefer and host.silent_s <= QUIET_S:
                return host
        # One that was not heard lately may be lost: nobody is sent there who has a choice.
        return min(able, key=lambda host: (host.silent_s > QUIET_S, len(host.sessions), -host.beat.free_mib))

    def _has_place(self, host: HostHandle) -> bool:
        return (
            host.lost is None
            and not host.is_draining
            and len(host.sessions) < self.per_host
            and host.beat.free_mib >= self.min_free_mib
        )

    def _full(self, conversation: str) -> str:
        taken = ", ".join(
            f"{host}: {len(host.sessions)} of {self.per_host}, {host.beat.free_mib} MiB free"
            + (", draining" if host.is_draining else "")
            for host in self.hosts.values()
        )
        return (
            f"no place for the session {conversation!r}, and {len(self._waiting)} wait already "
            f"({taken or 'no host lives'}); close sessions, give Fleet(per_host=...) more places, put idle ones to "
            "sleep with Fleet(sleep_after=...), or add nodes"
        )


def _fits(host: HostHandle, needs: Mapping[str, float], used: Mapping[str, float]) -> bool:
    return all(
        host.node.resources.get(name, 0.0) - used.get(name, 0.0) >= amount for name, amount in needs.items()
    )

"""Which connections there are: those that have asked nothing yet, or wait for a next request, make room for others."""

from __future__ import annotations

import select
import time
from collections import Counter
from collections.abc import Iterable
from ipaddress import IPv6Address, ip_address
from typing import Any, Final, Protocol

__all__ = ["ConnectionPlaces", "peer_of"]

_PREFIX_BITS: Final = 64
"""Of an IPv6 address: the rest is its owner's to choose."""


class _Connection(Protocol):
    transport: Any


class ConnectionPlaces:
    """The places of connections.

    A connection is *silent* until the head of its first request is there, *bringing* while a request's body comes, and
    *resting* between two requests. The silent, the resting, and those that bring slowly are closed where room is
    needed: of the peer that has most of them, the oldest.

    :param most: how many connections there are at once; `silent`: how many of them are silent.
    :param slow_s: how many seconds a body may take before its connection makes room.
    """

    def __init__(self, *, most: int, silent: int, slow_s: float = 1.0) -> None:
        self._most = most
        self._slow_s = slow_s
        self._most_silent = silent
        self._open: set[_Connection] = set()
        self._silent: dict[_Connection, str] = {}  # in the order in which they came, with their peers
        self._resting: dict[_Connection, str] = {}
        self._bringing: dict[_Connection, tuple[str, float]] = {}  # with the time from which on

    def enter(self, connection: _Connection, peer: str) -> None:
        """Take in a connection. It is closed at once if all others have requests under way."""
        while len(self._silent) >= self._most_silent and self._close_oldest(self._silent):
            pass
        if len(self._open) >= self._most and not (
            self._close_oldest(self._silent)
            or self._close_oldest(self._resting)
            or self._close_oldest(self._slow(), even_unread=True)
            or self._close_oldest(self._silent, even_unread=True)
        ):
            connection.transport.abort()
            return
        self._open.add(connection)
        self._silent[connection] = peer

    def bring(self, connection: _Connection, peer: str) -> None:
        """A request's head is there, and more of its body is to come."""
        if connection in self._open and connection not in self._bringing:
            self.ask(connection)
            self._bringing[connection] = peer, time.monotonic()

    def ask(self, connection: _Connection) -> None:
        """All of a request is there."""
        self._silent.pop(connection, None)
        self._resting.pop(connection, None)
        self._bringing.pop(connection, None)

    def rest(self, connection: _Connection, peer: str) -> None:
        """A request is answered."""
        self._bringing.pop(connection, None)
        if connection in self._open:
            self._resting[connection] = peer

    def leave(self, connection: _Connection) -> None:
        """Forget a connection."""
        self._open.discard(connection)
        self.ask(connection)

    def _slow(self) -> dict[_Connection, str]:
        since = time.monotonic() - self._slow_s
        return {one: peer for one, (peer, began) in self._bringing.items() if began <= since}

    def _close_oldest(self, among: dict[_Connection, str], *, even_unread: bool = False) -> bool:
        """Close one. Tell whether there was one.

        :param even_unread: though it may have sent a request that is not read yet.
        """
        for connection in _in_order(among):
            if even_unread or not _has_sent(connection):
                self.leave(connection)
                connection.transport.abort()
                return True
        return False


def _in_order(among: dict[_Connection, str]) -> Iterable[_Connection]:
    """Return the connections of the peer that has most of them, the oldest first, and then all others."""
    if not among:
        return ()
    ((most, _),) = Counter(among.values()).most_common(1)
    return sorted(among, key=lambda one: among[one] != most)


def _has_sent(connection: _Connection) -> bool:
    """Tell whether the kernel holds what a connection has sent: many are accepted before the first of them is read."""
    poll = select.poll()
    poll.register(connection.transport.get_extra_info("socket"), select.POLLIN)
    return any(event & select.POLLIN and not event & select.POLLHUP for _, event in poll.poll(0))


def peer_of(transport: Any) -> str:
    """Return who is at the other end: its address, or the network that an IPv6 address is of."""
    given = transport.get_extra_info("peername")
    host = str(given[0]) if isinstance(given, tuple) and given else ""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, IPv6Address):
        return str(IPv6Address(int(address) >> _PREFIX_BITS << _PREFIX_BITS))
    return host

"""What is on its way to a client that may be slow: sent one after the other, and bounded."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final

import anyio
import attrs
from mcp.shared.exceptions import MCPError

__all__ = ["Outbox"]

_log = logging.getLogger("agentd.mcp")
_MOST: Final = 1000
_MOST_BYTES: Final = 4 << 20
_GONE: Final = (anyio.BrokenResourceError, anyio.ClosedResourceError, MCPError)

Send = Callable[[], Awaitable[None]]


@attrs.frozen
class _WaitingNotice:
    send: Send
    key: object
    size: int


class Outbox:
    """Notifications for one client, or for one request of it. What comes when it is full is left out: they say how far
    something is, or that something has changed, and nobody waits for them.

    :param most: how many may wait; `most_bytes`: how large they may be together, but for a sole one.
    """

    def __init__(self, most: int = _MOST, most_bytes: int = _MOST_BYTES) -> None:
        self._put, self._take = anyio.create_memory_object_stream[_WaitingNotice](most)
        self._most_bytes = most_bytes
        self._bytes = 0
        self._keys: set[object] = set()
        self._is_told = False

    def put(self, send: Send, *, key: object = None, size: int = 0) -> None:
        """Have something sent. Never waits.

        :param key: of what says the same whenever it comes: while one of them waits, another is not needed.
        :param size: about how many bytes it has.
        """
        if key is not None and key in self._keys:
            return
        if self._bytes and self._bytes + size > self._most_bytes:
            self._leave_out()
            return
        try:
            self._put.send_nowait(_WaitingNotice(send, key, size))
        except anyio.WouldBlock:
            self._leave_out()
        except (anyio.ClosedResourceError, anyio.BrokenResourceError):
            return
        else:
            self._bytes += size
            self._keys.add(key)

    def _leave_out(self) -> None:
        if not self._is_told:
            self._is_told = True
            _log.warning("a client reads more slowly than servers tell it something: some of it is left out")

    async def deliver(self) -> None:
        """Send until the box is closed and empty."""
        with self._take:
            async for waiting in self._take:
                self._bytes -= waiting.size
                self._keys.discard(waiting.key)
                try:
                    await waiting.send()
                except _GONE:
                    _log.debug("a notification has not reached its client", exc_info=True)

    def close(self) -> None:
        """Take nothing more."""
        self._put.close()

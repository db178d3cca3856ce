"""`SocketStream`: one end of a relayed connection, with a bounded buffer and nothing in flight but that."""

from __future__ import annotations

import asyncio
import socket
from types import TracebackType

__all__ = ["BLOCK_BYTES", "ConnectionClock", "SocketStream", "StreamEndedError", "copy_stream"]

BLOCK_BYTES = 1 << 16
FAIR_BYTES = 1 << 20
"""So much is copied before others have their turn; reads and writes that need not wait do not give it up."""

LINGER_S = 1.0


class StreamEndedError(ConnectionError):
    """The other side has closed in the middle of something."""


class ConnectionClock:
    """When a byte last went through a connection, on either side of the proxy."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.touch()

    def touch(self) -> None:
        """Remember that one did."""
        self._used_at = self._loop.time()

    @property
    def idle_s(self) -> float:
        """How long none has."""
        return self._loop.time() - self._used_at


class SocketStream:
    """A connected socket in the proxy's loop. Closed by leaving the `with` block.

    `buffered` holds what was read and not yet used; `clock` may be shared with the other side's stream.
    """

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = connection
        self.buffered = bytearray()
        self.clock = ConnectionClock()
        self._loop = asyncio.get_running_loop()

    def __enter__(self) -> SocketStream:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.abort()
        self.socket.close()

    async def fill(self, size: int) -> None:
        """Read until `size` bytes are buffered. :raises StreamEndedError: if the other side ends before."""
        while len(self.buffered) < size:
            if not await self.fill_some():
                raise StreamEndedError("closed in the middle of a message")

    async def fill_some(self) -> bool:
        """Wait for more bytes, and buffer them; False at the end."""
        data = await self._loop.sock_recv(self.socket, BLOCK_BYTES)
        self.clock.touch()
        self.buffered += data
        return bool(data)

    async def take(self, size: int) -> bytes:
        """Return the next `size` bytes. :raises StreamEndedError: if the other side ends before."""
        await self.fill(size)
        taken = bytes(self.buffered[:size])
        del self.buffered[:size]
        return taken

    async def read(self) -> bytes:
        """Return some bytes; none at the end."""
        if not self.buffered:
            await self.fill_some()
        taken = bytes(self.buffered)
        self.buffered.clear()
        return taken

    async def read_into(self, block: memoryview) -> int:
        """Read into a block that is used again and again; return the number of bytes, 0 at the end."""
        size = await self._loop.sock_recv_into(self.socket, block)
        self.clock.touch()
        return size

    async def write(self, data: bytes | memoryview) -> None:
        """Send all of it; waits where the other side does not read."""
        await self._loop.sock_sendall(self.socket, data)
        self.clock.touch()

    def end_writing(self) -> None:
        """Tell the other side that nothing more comes."""
        self._shut(socket.SHUT_WR)

    def abort(self) -> None:
        """End both directions: who reads gets the end, even if another process has a copy of the socket."""
        self._shut(socket.SHUT_RDWR)

    def _shut(self, how: int) -> None:
        try:
            self.socket.shutdown(how)
        except OSError:  # ended already
            pass

    async def say_and_end(self, data: bytes) -> None:
        """Send a last message, and read on for a moment: bytes unread at the close would destroy it on its way."""
        await self.write(data)
        self.end_writing()
        try:
            async with asyncio.timeout(LINGER_S):
                while await self._loop.sock_recv(self.socket, BLOCK_BYTES):
                    pass
        except (TimeoutError, OSError):
            pass


async def copy_stream(source: SocketStream, target: SocketStream) -> None:
    """Copy until the source ends, and end the target's input then; if it breaks off, end both."""
    try:
        await _copy(source, target)
    except OSError:
        source.abort()
        target.abort()
        raise
    target.end_writing()


async def _copy(source: SocketStream, target: SocketStream) -> None:
    if source.buffered:
        await target.write(await source.read())
    block = memoryview(bytearray(BLOCK_BYTES))
    copied = 0
    while size := await source.read_into(block):
        await target.write(block[:size])
        copied += size
        if copied >= FAIR_BYTES:
            copied = 0
            await asyncio.sleep(0)

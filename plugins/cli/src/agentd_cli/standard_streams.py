"""Standard input and output of a command that speaks a protocol on them and that a signal can end: what SDKs bring
waits in threads, which nothing can stop until the client sends a line, or reads one."""

from __future__ import annotations

import fcntl
import os
import select
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

import anyio
import anyio.lowlevel

__all__ = ["StandardInput", "StandardOutput", "claimed"]

_MOST_READ: Final = 1 << 18
_ABOVE_STANDARD: Final = 3
_HALF_CLOSED: Final = getattr(select, "POLLRDHUP", 0)
"""Of a socket, on Linux; that a pipe is closed, poll says unasked."""


@contextmanager
def claimed() -> Iterator[tuple[StandardInput, StandardOutput]]:
    """Take standard input and output for the protocol: while entered, whatever else reads has nothing, and whatever
    else prints does so on standard error."""
    wires = [fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, _ABOVE_STANDARD) for number in (0, 1)]
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    try:
        yield StandardInput(wires[0]), StandardOutput(wires[1])
    finally:
        for number, wire in enumerate(wires):
            os.dup2(wire, number)
            os.close(wire)


class StandardInput:
    """Reads from a descriptor: bytes as they come, or lines."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    async def read(self) -> bytes:
        """Wait for the next bytes, which may be any part of a line; none are the end."""
        await _ready(anyio.wait_readable, self._descriptor)
        return os.read(self._descriptor, _MOST_READ)

    def is_hung_up(self) -> bool:
        """Tell whether nothing more is written to it. There may be something to read yet."""
        poll = select.poll()
        poll.register(self._descriptor, _HALF_CLOSED)
        return bool(poll.poll(0))

    async def lines(self, most_bytes: int) -> AsyncIterator[bytes | None]:
        """Yield lines, and None in place of one that is too long. The last one need not be ended."""
        pieces: list[bytes] = []
        size = 0
        while True:
            data = await self.read()
            *lines, rest = data.split(b"\n")
            for line in lines:
                size += len(line)
                yield b"".join([*pieces, line]) if size <= most_bytes else None
                pieces.clear()
                size = 0
            size += len(rest)
            if size <= most_bytes:
                pieces.append(rest)
            else:
                pieces.clear()
            if not data:
                if last := b"".join(pieces):
                    yield last
                return


class StandardOutput:
    """Writes text to a descriptor, one text after the other."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._busy = anyio.Lock()

    async def write(self, text: str) -> int:
        """Write all of it, as the reader takes it."""
        rest = memoryview(text.encode("utf-8", "replace"))
        async with self._busy:
            while rest:
                await _ready(anyio.wait_writable, self._descriptor)
                # So much a pipe that is ready takes without waiting.
                rest = rest[os.write(self._descriptor, rest[: select.PIPE_BUF]) :]
        return len(text)

    async def flush(self) -> None:
        """Nothing is held back."""


async def _ready(wait: Callable[[int], Awaitable[None]], descriptor: int) -> None:
    try:
        await wait(descriptor)
    except PermissionError:  # a regular file is always ready, says epoll
        await anyio.lowlevel.checkpoint()

"""Standard input and output of a command that speaks a protocol on them and that a signal can end: what SDKs bring
waits in threads, which nothing can stop until the client sends a line, or reads one."""

from __future__ import annotations

import fcntl
import os
import select
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

import anyio
import anyio.lowlevel

from agentd_cli.unread_errors import relayed_errors

__all__ = ["CutLine", "StandardInput", "StandardOutput", "claimed"]

_MOST_READ: Final = 1 << 18
_ABOVE_STANDARD: Final = 3
_KEPT: Final = 4096
_HALF_CLOSED: Final = getattr(select, "POLLRDHUP", 0)
"""Of a socket, on Linux; that a pipe is closed, poll says unasked."""


@contextmanager
def claimed() -> Iterator[tuple[StandardInput, StandardOutput]]:
    """Take standard input and output for the protocol: while entered, whatever else reads has nothing, and whatever
    else prints does so on standard error, which the client need not read."""
    with relayed_errors(), _diverted() as wires:
        yield StandardInput(wires[0]), StandardOutput(wires[1])


@contextmanager
def _diverted() -> Iterator[list[int]]:
    wires = [fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, _ABOVE_STANDARD) for number in (0, 1)]
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    try:
        yield wires
    finally:
        for number, wire in enumerate(wires):
            os.dup2(wire, number)
            os.close(wire)


class CutLine(NamedTuple):
    """What is kept of a line that was too long: up to 4 KiB of its beginning, and of its end."""

    head: bytes
    tail: bytes


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

    async def lines(self, most_bytes: int) -> AsyncIterator[bytes | CutLine]:
        """Yield lines; of one that is too long, its ends. The last one need not be ended."""
        line = _GrowingLine(most_bytes)
        while True:
            data = await self.read()
            *ended, rest = data.split(b"\n")
            for piece in ended:
                line.add(piece)
                yield line.whole()
                line = _GrowingLine(most_bytes)
            line.add(rest)
            if not data:
                if line.size:
                    yield line.whole()
                return


class _GrowingLine:
    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._pieces: list[bytes] = []
        self._cut = CutLine(b"", b"")
        self.size = 0

    def add(self, piece: bytes) -> None:
        self.size += len(piece)
        self._pieces.append(piece)
        if self.size > self._most_bytes:
            known = b"".join(self._pieces)
            self._cut = CutLine(self._cut.head or known[:_KEPT], (self._cut.tail + known)[-_KEPT:])
            self._pieces.clear()

    def whole(self) -> bytes | CutLine:
        return b"".join(self._pieces) if self.size <= self._most_bytes else self._cut


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

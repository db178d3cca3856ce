"""Reading one file: chunk by chunk, in bounded memory, holes skipped, and no longer than it was at first."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import attrs

from agentd_snapshots.digest import hasher
from agentd_snapshots.tree import CHUNK

__all__ = ["Content", "ContentReader", "Keep", "Poll"]

Keep = Callable[[bytes, "bytes | memoryview"], None]
"""Takes a chunk's digest and its bytes, which are only valid during the call."""
Poll = Callable[[], None]
"""Called often during long work; what it raises ends the work."""


@attrs.frozen
class Content:
    """What was read, as in `File`; `length` is less than what was asked for if the file ended earlier."""

    digests: bytes
    length: int
    runs: tuple[int, ...] = ()


class ContentReader:
    """Reads files. `keep` gets every chunk that is not all zeros."""

    def __init__(self, *, keep: Keep | None = None, poll: Poll | None = None) -> None:
        self._keep = keep
        self._poll = poll
        self._hash = hasher()
        self._buffer = memoryview(b"")
        self._zeros = b""
        self._zero_digests: dict[int, bytes] = {}

    def read(self, fd: int, size: int, *, holes: bool = False) -> Content:
        """Read the first `size` bytes. `holes` says that the file may have some, which then are not read."""
        if size > CHUNK:
            return self._read_chunks(fd, size, holes)
        if size == 0:
            return Content(b"", 0)
        data = os.read(fd, size)
        while len(data) < size and (more := os.read(fd, size - len(data))):
            data += more
        digest = self._hash(data).digest()
        if not data or (data[0] == 0 and digest == self._zero_digest(len(data))):
            return Content(b"", len(data))
        if self._keep is not None:
            self._keep(digest, data)
        return Content(digest, len(data))

    def _read_chunks(self, fd: int, size: int, holes: bool) -> Content:
        if not self._buffer:
            self._buffer = memoryview(bytearray(CHUNK))
        digests, runs = bytearray(), _Runs()
        number, last = 0, (size - 1) // CHUNK
        while number <= last:
            if self._poll is not None:
                self._poll()
            if holes and (number := _next_data(fd, number)) > last:
                break
            expected = min(CHUNK, size - number * CHUNK)
            got = self._fill(fd, number * CHUNK, expected)
            digest = self._hash(self._buffer[:got]).digest()
            if got and digest != self._zero_digest(got):
                digests += digest
                runs.add(number)
                if self._keep is not None:
                    self._keep(digest, self._buffer[:got])
            if got < expected:
                size = number * CHUNK + got
                break
            number += 1
        return Content(bytes(digests), size, runs.as_tuple())

    def _fill(self, fd: int, offset: int, length: int) -> int:
        """Read into the buffer; return how much there was."""
        got = 0
        while got < length and (n := os.preadv(fd, [self._buffer[got:length]], offset + got)):
            got += n
        return got

    def _zero_digest(self, length: int) -> bytes:
        found = self._zero_digests.get(length)
        if found is None:
            found = self._hash(bytes(length)).digest()
            if len(self._zero_digests) < 1000:
                self._zero_digests[length] = found
        return found


class _Runs:
    """Numbers in rising order, as runs."""

    def __init__(self) -> None:
        self._runs: list[int] = []

    def add(self, number: int) -> None:
        runs = self._runs
        if runs and runs[-2] + runs[-1] == number:
            runs[-1] += 1
        else:
            runs += (number, 1)

    def as_tuple(self) -> tuple[int, ...]:
        """The runs, or nothing for a single one from the start."""
        return () if len(self._runs) == 2 and self._runs[0] == 0 else tuple(self._runs)


def _next_data(fd: int, number: int) -> int:
    """Return the number of the next chunk, from this one on, that is not all hole."""
    if not hasattr(os, "SEEK_DATA"):
        return number
    try:
        return os.lseek(fd, number * CHUNK, os.SEEK_DATA) // CHUNK
    except OSError as exc:
        if exc.errno == errno.ENXIO:  # nothing but a hole up to the end
            return 1 << 62
        return number  # a file system without holes

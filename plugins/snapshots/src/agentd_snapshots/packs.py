"""Packs: the contents of files, many in one file.

    b"agentdP1" | chunks, one after the other | digests, 32 bytes each | lengths, 4 bytes each
    | number of chunks, 8 bytes | digest of the digests and lengths | b"agentdP1"        (little endian)

A snapshot adds at most one pack, with the chunks that no pack had. A pack is named after its table, is written
under another name first, and never changes. Chunks are not compressed: zlib's fastest level doubled the time of a
first snapshot of small source files.
"""

from __future__ import annotations

import os
import struct
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path

from agentd.errors import CorruptSnapshotError

from agentd_snapshots.digest import digest_of, hasher
from agentd_snapshots.tree import CHUNK, DIGEST

__all__ = ["PackSet", "PackWriteError", "PackWriter", "pack_name", "sync_folder", "write_all"]

MAGIC = b"agentdP1"
_TAIL = struct.Struct(f"<Q{DIGEST}s8s")
_BUFFER = CHUNK
_OPEN_PACKS = 32


def write_all(fd: int, data: bytes | bytearray | memoryview) -> None:
    """Write everything; `os.write` may write a part."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


class PackWriteError(Exception):
    """A pack could not be written. No `OSError`: while a file is read, that would mean the file.

    `reason` is the system's error.
    """

    def __init__(self, reason: OSError) -> None:
        super().__init__(str(reason))
        self.reason = reason


class PackWriter:
    """Collects chunks in a new pack. Nothing is made on disk before the first one."""

    def __init__(self, packs: PackSet, temporary: Path) -> None:
        self._packs = packs
        self._path = temporary / "pack"
        self._fd = -1
        self._buffer = bytearray()
        self._digests = bytearray()
        self._lengths = array("I")
        self._added: set[bytes] = set()
        self.bytes = 0

    def add(self, digest: bytes, data: bytes | memoryview, *, again: bool = False) -> None:
        """Keep a chunk, unless there is one of that digest already (`again`: in any other pack)."""
        if digest in self._added or (not again and digest in self._packs):
            return
        if self._fd < 0:
            try:
                self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            except OSError as exc:
                raise PackWriteError(exc) from exc
            self._buffer += MAGIC
        self._added.add(digest)
        self._digests += digest
        self._lengths.append(len(data))
        self.bytes += len(data)
        self._buffer += data
        if len(self._buffer) >= _BUFFER:
            self._flush()

    def _flush(self) -> None:
        try:
            write_all(self._fd, self._buffer)
        except OSError as exc:
            raise PackWriteError(exc) from exc
        del self._buffer[:]

    def finish(self) -> str | None:
        """Publish the pack and return its name. Its chunks are in the set from now on."""
        if self._fd < 0:
            return None
        table = bytes(self._digests) + _little(self._lengths).tobytes()
        digest = digest_of(table)
        self._buffer += table + _TAIL.pack(len(self._lengths), digest, MAGIC)
        self._flush()
        if self._packs.durable:
            os.fsync(self._fd)
        os.close(self._fd)
        self._fd = -1
        name = digest[:16].hex() + ".pack"
        self._packs.publish(self._path, name)
        return name

    def abandon(self) -> None:
        """Remove what was written."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self._path.unlink(missing_ok=True)


class PackSet:
    """The packs of a folder: which chunks they have, and the chunks themselves.

    :param durable: False: a crash of the machine may lose them.
    """

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        self.folder = folder
        self.durable = durable
        self._loaded: dict[str, int] = {}  # name -> number of chunks
        self._where: dict[bytes, tuple[str, int, int]] = {}
        self._open: OrderedDict[str, int] = OrderedDict()
        self._hash = hasher()

    def __del__(self) -> None:
        self.close()

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._where

    @property
    def lookup(self) -> Callable[[bytes], bool]:
        """The same as a function that costs as little as possible."""
        return self._where.__contains__

    def sync(self) -> None:
        """Take note of packs that other processes have added or removed."""
        present = {name for name in os.listdir(self.folder) if name.endswith(".pack")}
        if not self._loaded.keys() <= present:
            self.forget()
        for name in sorted(present - self._loaded.keys()):
            try:
                self._load(name)
            except CorruptSnapshotError:
                pass  # its chunks count as missing: a snapshot stores them again, a restore says so

    def holds(self, name: str, digest: bytes) -> bool:
        """Whether reads of a chunk go to this pack."""
        found = self._where.get(digest)
        return found is not None and found[0] == name

    def names_for(self, digests: Iterable[bytes]) -> set[str]:
        """The names of the packs that reads of these chunks go to."""
        where = self._where
        return {where[digest][0] for digest in digests if digest in where}

    def names(self) -> list[str]:
        """The names of the packs that were loaded."""
        return sorted(self._loaded)

    def forget(self) -> None:
        """Close all packs and forget what is in them."""
        self.close()
        self._loaded.clear()
        self._where.clear()

    def close(self) -> None:
        """Close all packs."""
        while self._open:
            os.close(self._open.popitem()[1])

    def publish(self, temporary: Path, name: str) -> None:
        """Give a finished pack its name."""
        os.rename(temporary, self.folder / name)
        if self.durable:
            sync_folder(self.folder)
        self._load(name)

    def read(self, digest: bytes) -> bytes:
        """Return a chunk.

        :raises CorruptSnapshotError: if no pack has it, or the pack is damaged there.
        """
        found = self._where.get(digest)
        if found is None:
            raise CorruptSnapshotError(
                f"the snapshot store {str(self.folder.parent)!r} has lost content {digest.hex()[:16]}: "
                "a pack is missing or damaged; see Snapshots.verify()"
            )
        name, offset, length = found
        data = os.pread(self._descriptor(name), length, offset)
        if self._hash(data).digest() != digest:
            raise CorruptSnapshotError(
                f"the pack {str(self.folder / name)!r} is damaged between bytes {offset} and {offset + length}; "
                "snapshots that need it cannot be restored in full"
            )
        return data

    def table(self, name: str) -> list[tuple[bytes, int, int]]:
        """The (digest, offset, length) of each chunk of a pack, in its order.

        :raises CorruptSnapshotError: if the table is damaged.
        """
        fd = os.open(self.folder / name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return _read_table(fd)
        except (ValueError, struct.error, OSError) as exc:
            raise CorruptSnapshotError(
                f"the pack {str(self.folder / name)!r} is damaged: {exc}; snapshots that need it cannot be restored"
            ) from exc
        finally:
            os.close(fd)

    def _load(self, name: str) -> None:
        self._loaded[name] = 0
        table = self.table(name)
        where = self._where
        for digest, offset, length in table:
            where[digest] = (name, offset, length)
        self._loaded[name] = len(table)

    def _descriptor(self, name: str) -> int:
        fd = self._open.get(name)
        if fd is None:
            fd = self._open[name] = os.open(self.folder / name, os.O_RDONLY | os.O_CLOEXEC)
            if len(self._open) > _OPEN_PACKS:
                os.close(self._open.popitem(last=False)[1])
        else:
            self._open.move_to_end(name)
        return fd


def pack_name(path: Path) -> str:
    """Read a pack that somebody else has made, whole, and return the name that it has by its content.

    :raises CorruptSnapshotError: if it is none, or a chunk in it is not what its digest says.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for digest, offset, length in _read_table(fd):
            if digest_of(os.pread(fd, length, offset)) != digest:
                raise ValueError(f"the chunk between bytes {offset} and {offset + length} has another hash")
        return digest_of(_table_of(fd)[0])[:16].hex() + ".pack"
    except (ValueError, struct.error) as exc:
        raise CorruptSnapshotError(f"the pack {str(path)!r} is damaged: {exc}") from exc
    finally:
        os.close(fd)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _table_of(fd: int) -> tuple[bytes, array[int]]:
    """Return the table of a pack, and the lengths of its chunks."""
    end = os.fstat(fd).st_size - _TAIL.size
    if end < len(MAGIC):
        raise ValueError("it is cut off")
    count, digest, magic = _TAIL.unpack(os.pread(fd, _TAIL.size, end))
    size = count * (DIGEST + 4)
    if magic != MAGIC or size > end:
        raise ValueError("its end is not that of a pack")
    table = os.pread(fd, size, end - size)
    if digest_of(table) != digest:
        raise ValueError("its table does not have the hash that it should have")
    lengths = array("I", table[count * DIGEST :])
    _little(lengths)
    if max(lengths, default=0) > CHUNK or len(MAGIC) + sum(lengths) != end - size:
        raise ValueError("its chunks are not as long as it says")
    return table, lengths


def _read_table(fd: int) -> list[tuple[bytes, int, int]]:
    table, lengths = _table_of(fd)
    rows, offset = [], len(MAGIC)
    for number, length in enumerate(lengths):
        rows.append((table[number * DIGEST : (number + 1) * DIGEST], offset, length))
        offset += length
    return rows


def _little(numbers: array[int]) -> array[int]:
    """Swap bytes in place on machines that are not little endian."""
    import sys

    if sys.byteorder != "little":
        numbers.byteswap()
    return numbers

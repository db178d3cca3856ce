"""Files that code has left open: what they still hold is written when its block ends."""

from __future__ import annotations

import _io
import gc
import os
from _weakref import ref

from .processes import LINUX

TYPE_CHECKING = False  # `typing` itself would cost every runner its import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

_BUFFERS = (_io.BufferedWriter, _io.BufferedRandom)
_MOST_GUESSED = 256
Key = tuple[int, int, int]


class _OpenFile:
    """A file object that holds what is to be written to a regular file."""

    def __init__(self, file: Any, key: Key) -> None:
        self.file = ref(file)
        self.key = key
        self.has_failed = False


class OpenFiles:
    """Those of one interpreter, from block to block.

    There may be a million objects to look for them among. So that is done only if a descriptor has come; later, those
    that are known are written, and only what is young is looked through.
    """

    def __init__(self) -> None:
        self.known: list[_OpenFile] = []
        self.seen: set[Key] = set()

    def write(self, report: Callable[[BaseException], None]) -> int:
        """Write what they hold. Return how many files could not be written; of each, the first failure is reported."""
        there = set(_regular_files())
        gone = [one for one in self.known if one.file() is None or _key_of(one.file()) != one.key]
        self.known = [one for one in self.known if one not in gone]
        self.seen -= {one.key for one in gone}
        if any(_may_be_written(key[0]) for key in there - self.seen):
            self._look_among(gc.get_objects())
        elif there:
            self._look_among(gc.get_objects(0) + gc.get_objects(1))
        self.seen = there
        return sum(self._write(one, report) for one in self.known)

    def _look_among(self, objects: list[Any]) -> None:
        kinds: dict[type, bool] = {}
        files = []
        for one in objects:
            kind = type(one)
            is_file = kinds.get(kind)
            if is_file is None:
                is_file = kinds[kind] = issubclass(kind, (_io.TextIOWrapper, *_BUFFERS))
            if is_file:
                files.append(one)
        texts = [one for one in files if isinstance(one, _io.TextIOWrapper)]
        wrapped = {id(_buffer_of(one)) for one in texts}
        known = {id(one.file()) for one in self.known}
        for one in texts + [one for one in files if type(one) in _BUFFERS and id(one) not in wrapped]:
            if id(one) not in known and (key := _key_of(one)) is not None:
                self.known.append(_OpenFile(one, key))

    def _write(self, one: _OpenFile, report: Callable[[BaseException], None]) -> bool:
        try:
            file: Any = one.file()
            file.flush()
            return False
        except BaseException as error:
            if not one.has_failed:
                report(error)
                one.has_failed = True
                return True
            return False


def _buffer_of(file: Any) -> Any:
    try:
        return file.buffer if isinstance(file, _io.TextIOWrapper) else file
    except Exception:  # of one whose buffer was detached
        return None


def _key_of(file: Any) -> Key | None:
    """Return the key of what a file object writes to; None if that is no regular file: a pipe may be full."""
    buffer = _buffer_of(file)
    try:
        if type(buffer) not in _BUFFERS or buffer.closed or type(buffer.raw) is not _io.FileIO:
            return None
        return _regular(buffer.raw.fileno())
    except Exception:  # of one whose raw file was detached
        return None


def _regular_files() -> Iterator[Key]:
    try:
        numbers = [int(name) for name in os.listdir("/dev/fd")]
    except (OSError, ValueError):
        numbers = list(range(_MOST_GUESSED))
    for number in numbers:
        if number > 2 and (key := _regular(number)) is not None:
            yield key


def _regular(descriptor: int) -> Key | None:
    try:
        status = os.fstat(descriptor)
    except OSError:  # that of the listing itself, say
        return None
    return (descriptor, status.st_dev, status.st_ino) if status.st_mode & 0o170000 == 0o100000 else None


def _may_be_written(descriptor: int) -> bool:
    if not LINUX:
        return True
    try:
        with _io.open(f"/proc/self/fdinfo/{descriptor}", "rb") as info:
            flags = next(line for line in info if line.startswith(b"flags:"))
        return int(flags.split()[1], 8) & os.O_ACCMODE != os.O_RDONLY
    except (OSError, ValueError, StopIteration, IndexError):
        return True

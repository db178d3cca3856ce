"""The folder that pictures lie in: read and written without following links, held by living sessions, kept small."""

from __future__ import annotations

import fcntl
import os
import re
import stat
import threading
import time
import weakref
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import Final

from agentd_history.pictures import FOLDER

from agentd_images.picture import MIME_TYPES, file_name

__all__ = ["PictureFolder"]

_MOST_BYTES: Final = 64 * 1024 * 1024  # of a file that is read back
_MOST_ENTRIES: Final = 100_000  # that are looked at: code may have made any number
_FOLDER: Final = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NAME: Final = re.compile(r"[0-9a-f]{32}\.(?:png|jpg|webp)")
_PART: Final = re.compile(_NAME.pattern + r"\.[0-9a-f]{8}\.part")
_PATIENCE_S: Final = 1.0
"""For another session that clears the folder now. Not longer: code in the folder could hold it for ever."""


class PictureFolder:
    """Pictures as files that are named by the hash of their content. A file whose content has another hash does not
    count: code may change what lies in a workspace.

    Anyone who needs the files holds the folder (`flock`, shared), and nobody clears it meanwhile. The system lets go of
    it when the process ends, however that ends.

    :param base: the workspace, say.
    :param inside: where in it.
    """

    def __init__(self, base: Path, inside: str = FOLDER) -> None:
        self._base = base
        self._inside = inside
        self._lock = threading.Lock()
        self._held: tuple[int, tuple[int, int]] | None = None  # descriptor, device and inode
        self._close: Callable[[], object] = int
        self._is_patient = True

    @contextmanager
    def _opened(self, *, make: bool = False) -> Iterator[int]:
        """Open the folder step by step, without following a link that code has put there. Raises `OSError`."""
        with ExitStack() as stack:
            here = os.open(self._base, os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, here)
            for name in self._inside.split("/"):
                if make:
                    try:
                        os.mkdir(name, dir_fd=here)
                    except FileExistsError:
                        pass
                here = os.open(name, _FOLDER, dir_fd=here)
                stack.callback(os.close, here)
            yield here

    # --- files -----------------------------------------------------------------------------------------

    def write(self, file: str, data: bytes) -> None:
        """Write a picture: all of it or, if that fails, nothing. Raises `OSError`."""
        with self._opened(make=True) as folder:
            part = f"{file}.{os.urandom(4).hex()}.part"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            try:
                with os.fdopen(os.open(part, flags, 0o644, dir_fd=folder), "wb") as out:
                    out.write(data)
                os.rename(part, file, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                os.unlink(part, dir_fd=folder)
                raise

    def read(self, file: str) -> bytes | None:
        """Return a picture, which is then among those that were used last; None if it is gone."""
        try:
            with self._opened() as folder:
                # A pipe in its place would keep an open without O_NONBLOCK waiting.
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                with os.fdopen(os.open(file, flags, dir_fd=folder), "rb") as content:
                    if not stat.S_ISREG(os.fstat(content.fileno()).st_mode):
                        return None
                    data = content.read(_MOST_BYTES)
                    if file_name(data, MIME_TYPES[file.rpartition(".")[2]]) != file:
                        return None
                    try:
                        os.utime(content.fileno())
                    except OSError:  # of another user, on a read-only disk
                        pass
                    return data
        except OSError:
            return None

    def files(self) -> dict[str, os.stat_result]:
        """Return what is there, by name, those first that were used last."""
        try:
            with self._opened() as folder:
                return dict(sorted(_files(folder), key=lambda found: found[1].st_mtime_ns, reverse=True))
        except OSError:
            return {}

    # --- who needs them, and what nobody needs ---------------------------------------------------------

    def hold(self) -> None:
        """Have nobody clear the folder until `release`, or until this object is gone. Nothing if it is not there."""
        with self._lock:
            try:
                with self._opened() as folder:
                    found = os.fstat(folder)
                    if self._held is not None and self._held[1] == (found.st_dev, found.st_ino):
                        return
                    self._let_go()  # of one that was moved away
                    held = os.dup(folder)
            except OSError:
                return
            self._held = (held, (found.st_dev, found.st_ino))
            self._close = weakref.finalize(self, os.close, held)
            until = time.monotonic() + (_PATIENCE_S if self._is_patient else 0)
            while not (is_held := _flock(held, fcntl.LOCK_SH)) and time.monotonic() < until:
                time.sleep(0.01)
            self._is_patient = is_held

    def release(self) -> None:
        """Let others clear the folder."""
        with self._lock:
            self._let_go()

    def _let_go(self) -> None:
        self._close()
        self._close, self._held = int, None

    def clear(self, *, max_files: int, max_bytes: int, needed: Callable[[], Collection[str]]) -> int:
        """Remove the pictures that were not used for the longest time, until there are no more than this, and return
        how many went. Does nothing while anybody holds the folder.

        :param needed: asked if some are to go: those that stay all the same.
        """
        try:
            with self._opened() as folder:
                if not _flock(folder, fcntl.LOCK_EX):
                    return 0
                return _clear(folder, max_files, max_bytes, needed)
        except OSError:
            return 0


def _flock(fd: int, operation: int) -> bool:
    try:
        fcntl.flock(fd, operation | fcntl.LOCK_NB)
    except OSError:  # somebody else has it, or the file system has no locks
        return False
    return True


def _files(folder: int) -> list[tuple[str, os.stat_result]]:
    with os.scandir(folder) as entries:
        found = [entry for entry in islice(entries, _MOST_ENTRIES) if _NAME.fullmatch(entry.name)]
        stats = [(entry.name, entry.stat(follow_symlinks=False)) for entry in found]
    return [(name, one) for name, one in stats if stat.S_ISREG(one.st_mode)]


def _unlink(name: str, folder: int) -> bool:
    """Remove a file. Code may have made something of its name that cannot be: the others go all the same."""
    try:
        os.unlink(name, dir_fd=folder)
    except OSError:
        return False
    return True


def _clear(folder: int, max_files: int, max_bytes: int, needed: Callable[[], Collection[str]]) -> int:
    with os.scandir(folder) as entries:
        parts = [entry.name for entry in islice(entries, _MOST_ENTRIES) if _PART.fullmatch(entry.name)]
    for name in parts:  # of a process that was killed
        _unlink(name, folder)
    files = sorted(_files(folder), key=lambda found: found[1].st_mtime_ns)
    left, left_bytes = len(files), sum(one.st_size for _, one in files)
    if left <= max_files and left_bytes <= max_bytes:
        return 0
    stays = needed()
    for name, one in files:
        if left <= max_files and left_bytes <= max_bytes:
            break
        if name not in stays and _unlink(name, folder):
            left, left_bytes = left - 1, left_bytes - one.st_size
    return len(files) - left

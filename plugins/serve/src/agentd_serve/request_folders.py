"""The folders of conversations without a name. They end with their server: of one that was killed, the next removes
them.

    requests/ID.lock    held (flock) by the server while it lives
    requests/ID/...     a folder for each conversation
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final
from uuid import uuid4

from agentd_runner.inside.files import remove_tree

__all__ = ["RequestFolders"]

_LOCK: Final = re.compile(r"([0-9a-f]{16})\.lock")


class RequestFolders:
    """Those of one server.

    :param root: where `requests` is.
    """

    def __init__(self, root: Path) -> None:
        self._base = root / "requests"
        self._id = ""
        self._lock = -1

    def open(self) -> None:
        """Begin. Blocks."""
        self._base.mkdir(parents=True, exist_ok=True)
        while self._lock < 0:
            id = uuid4().hex[:16]
            lock = os.open(
                self._base / f"{id}.lock", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600
            )
            # Else one that starts meanwhile takes it for a leftover.
            if _take(lock) and os.fstat(lock).st_nlink:
                self._id, self._lock = id, lock
            else:
                os.close(lock)

    def new(self) -> Path:
        """Return where a new conversation works."""
        return self._base / self._id / uuid4().hex[:16]

    def close(self) -> None:
        """End. Blocks."""
        if self._lock < 0:
            return
        with suppress(OSError):  # what could not be removed was logged
            (self._base / self._id).rmdir()
        _let_go(self._base / f"{self._id}.lock", self._lock)
        self._lock = -1
        with suppress(OSError):  # another server's requests are there
            self._base.rmdir()

    def clear(self) -> bool:
        """Remove what killed servers have left, and tell whether others live. Blocks."""
        gone = [self._clear(id) for id in self._others()]
        return not all(gone)

    def _others(self) -> Iterator[str]:
        for name in sorted(os.listdir(self._base)):
            found = _LOCK.fullmatch(name)
            if found is not None and found[1] != self._id:
                yield found[1]

    def _clear(self, id: str) -> bool:
        path = self._base / f"{id}.lock"
        with _opened(path) as lock:
            if lock is None:
                return True
            if not _take(lock):
                return False
            remove_tree(self._base / id)  # follows no links
            path.unlink(missing_ok=True)
            return True


@contextmanager
def _opened(path: Path) -> Iterator[int | None]:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:  # its server has ended, or it is no lock
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _take(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _let_go(path: Path, lock: int) -> None:
    path.unlink(missing_ok=True)
    fcntl.flock(lock, fcntl.LOCK_UN)  # a child that is just being forked may hold it, too
    os.close(lock)

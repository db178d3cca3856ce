"""The past: what a person has typed, kept in a private file from one start to the next."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from prompt_toolkit.history import FileHistory, History, InMemoryHistory

__all__ = ["open_past"]

_MAX_BYTES = 512 * 1024  # a longer file is cut to its newer half when it is opened


class _PrivateHistory(FileHistory):
    """A file of mode 0600. A full disk or a missing folder costs the history, not the REPL."""

    def load_history_strings(self) -> Iterable[str]:
        try:
            return list(super().load_history_strings())
        except OSError:
            return []

    def store_string(self, string: str) -> None:
        try:
            super().store_string(string)
        except OSError:
            pass


def open_past(path: Path | None) -> History:
    """Return the history in `path`, which is made with mode 0600 if it is missing, or one in memory for None."""
    if path is None:
        return InMemoryHistory()
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError:
        return InMemoryHistory()
    with open(fd, "r+b") as file:
        os.fchmod(fd, 0o600)  # a file that others could read until now
        _shorten(path, file.read())
    return _PrivateHistory(str(path))


def _shorten(path: Path, data: bytes) -> None:
    if len(data) <= _MAX_BYTES:
        return
    _, _, newer = data[-_MAX_BYTES // 2 :].partition(b"\n\n")  # entries are a blank line apart
    temporary = path.with_name(f"{path.name}.new")
    temporary.unlink(missing_ok=True)
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(newer)
    temporary.replace(path)

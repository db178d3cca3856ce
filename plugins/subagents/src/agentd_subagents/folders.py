"""The folder that an agent works in: made, filled with a copy, looked through, and removed.

The workspace that is copied belongs to code that may change it meanwhile, so no name in it is followed: every folder
and file is opened by its name in the folder that is open already, and a symbolic link is copied as one.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import attrs
from agentd.errors import ToolError

__all__ = ["Found", "brought_back", "copy_workspace", "look_through", "made_folder"]

_OWN: Final = ".agentd"
_KEPT: Final = "site"
"""What `pip install` has installed for the code, which a copy has, too."""
_MOST_FILES: Final = 100_000
_DEEPEST: Final = 100  # each level holds a descriptor
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_PIECE: Final = 1024 * 1024

MOST_BROUGHT: Final = 1000
"""So many files of an agent come into the workspace of whoever has started it."""
BROUGHT_BYTES: Final = 64 * 1024 * 1024

Found = Mapping[str, tuple[int, int, int, int]]
"""What tells one state of a file from another, by its path in the folder."""


def made_folder() -> Path:
    """Make a folder for an agent, which only this user can enter."""
    return Path(os.path.realpath(tempfile.mkdtemp(prefix="agentd-agent-")))


@attrs.define
class _Room:
    """What may still be copied."""

    most_bytes: int
    size: int = 0
    files: int = 0

    def take(self, *, size: int = 0, files: int = 0) -> None:
        self.files += files
        self.size += size
        if self.files > _MOST_FILES or self.size > self.most_bytes:
            raise ToolError(
                f"workspace: this one has more than {self.most_bytes // 2**20} MiB or {_MOST_FILES} files, too much to "
                "copy; use workspace='own' and say in the task what the agent needs to know"
            )


def copy_workspace(source: Path, target: Path, *, without: Path, most_bytes: int) -> None:
    """Copy what lies in a workspace; agentd's own things stay there, but for installed packages.

    :param without: the skills directory, which each session writes for itself.
    :raises ToolError: if it is larger than that.
    """
    room = _Room(most_bytes)
    skipped = os.path.relpath(without, source)
    root = os.open(source, _FOLDER)
    try:
        _copy(root, str(target), "", skipped, room)
    finally:
        os.close(root)


def _copy(folder: int, target: str, below: str, skipped: str, room: _Room) -> None:
    if below.count("/") > _DEEPEST:
        raise ToolError(f"workspace: this one has folders more than {_DEEPEST} deep, too deep to copy")
    for name in os.listdir(folder):
        path = f"{below}{name}"
        if path == skipped or (below == f"{_OWN}/" and name != _KEPT):
            continue
        there = os.path.join(target, name)
        try:
            kind = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISLNK(kind.st_mode):
                room.take(files=1)
                os.symlink(os.readlink(name, dir_fd=folder), there)
            elif stat.S_ISDIR(kind.st_mode):
                inner = os.open(name, _FOLDER, dir_fd=folder)
                try:
                    room.take(files=1)
                    os.mkdir(there, 0o700)
                    _copy(inner, there, f"{path}/", skipped, room)
                    os.chmod(there, stat.S_IMODE(kind.st_mode) | 0o700)
                finally:
                    os.close(inner)
            elif stat.S_ISREG(kind.st_mode):
                _copy_file(folder, name, there, room)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue  # it has gone, become something else, or is not to be read
        except OSError as error:
            if error.errno == errno.ELOOP:  # it has become a symbolic link
                continue
            raise


def _copy_file(folder: int, name: str, target: str, room: _Room) -> None:
    descriptor = os.open(name, _FILE, dir_fd=folder)
    try:
        kind = os.fstat(descriptor)
        if not stat.S_ISREG(kind.st_mode):
            return
        room.take(files=1)
        made = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            while piece := os.read(descriptor, _PIECE):
                room.take(size=len(piece))
                rest = memoryview(piece)
                while rest:
                    rest = rest[os.write(made, rest) :]
            os.fchmod(made, stat.S_IMODE(kind.st_mode) | 0o600)
            os.utime(made, ns=(kind.st_atime_ns, kind.st_mtime_ns))
        finally:
            os.close(made)
    finally:
        os.close(descriptor)


def look_through(folder: Path, *, without: Path) -> Found:
    """Return what files and links there are, but agentd's own."""
    skipped = os.path.relpath(without, folder)
    return dict(_walk(str(folder), "", skipped))


def _walk(folder: str, below: str, skipped: str) -> Iterator[tuple[str, tuple[int, int, int, int]]]:
    if below.count("/") > _DEEPEST:
        return
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        path = f"{below}{entry.name}"
        if path in (skipped, _OWN):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path, f"{path}/", skipped)
        elif entry.is_file(follow_symlinks=False) or entry.is_symlink():
            try:
                kind = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            yield path, (kind.st_mode, kind.st_size, kind.st_mtime_ns, kind.st_ctime_ns)


def brought_back(folder: Path, changed: list[str]) -> Iterator[tuple[str, bytes]]:
    """Return the changed files with their bytes, as long as there is room. The agent's code has ended."""
    room = BROUGHT_BYTES
    root = os.open(folder, _FOLDER)
    try:
        for path in changed[:MOST_BROUGHT]:
            try:
                if (content := _content(root, path, room)) is not None:
                    room -= len(content)
                    yield path, content
            except OSError:
                continue
    finally:
        os.close(root)


def _content(root: int, path: str, room: int) -> bytes | None:
    *folders, name = path.split("/")
    current = os.dup(root)
    try:
        for one in folders:
            inner = os.open(one, _FOLDER, dir_fd=current)
            os.close(current)
            current = inner
        descriptor = os.open(name, _FILE, dir_fd=current)
        with os.fdopen(descriptor, "rb") as file:
            kind = os.fstat(descriptor)
            if not stat.S_ISREG(kind.st_mode) or kind.st_size > room:
                return None
            content = file.read(room + 1)
            return content if len(content) <= room else None
    finally:
        os.close(current)

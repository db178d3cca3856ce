"""Walking a tree of folders by descriptors alone: no symlink is followed, no depth is too deep.

A path is never given to a system call. Each folder is opened by its name in the folder above, so that what
hostile code renames or links meanwhile leads nowhere else; a folder that turns out to be another one than
before raises `ChangedError`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import sys

__all__ = ["DIRECTORY", "ChangedError", "Spot", "Walker", "chmod_at", "is_fixed", "remove_at", "remove_tree"]

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_O_PATH = getattr(os, "O_PATH", 0)
_GET_FLAGS = 0x80086601  # FS_IOC_GETFLAGS of linux/fs.h
_FIXED = 0x10 | 0x20  # FS_IMMUTABLE_FL, FS_APPEND_FL
_GONE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE}


class ChangedError(Exception):
    """The tree was changed by somebody else in this very moment."""


class Spot:
    """A place in a tree: a name in the folder above it."""

    __slots__ = ("depth", "name", "parent")

    def __init__(self, parent: Spot | None, name: bytes) -> None:
        self.parent = parent
        self.name = name
        self.depth: int = 0 if parent is None else parent.depth + 1


class _Level:
    __slots__ = ("dev", "fd", "ino", "spot")

    def __init__(self, spot: Spot, fd: int) -> None:
        found = os.fstat(fd)
        self.spot, self.fd, self.dev, self.ino = spot, fd, found.st_dev, found.st_ino


class Walker:
    """Gives descriptors of folders. Cheap when spots are visited in the order of a walk.

    At most `window` descriptors are open: those of the upper folders of a deep tree are closed, and opened
    again through `..`, which must then be the same folder as before.
    """

    def __init__(self, root_fd: int, root: Spot | None = None, *, window: int = 64) -> None:
        self.root = root or Spot(None, b"")
        self._window = max(2, window)
        self._levels = [_Level(self.root, os.dup(root_fd))]

    def goto(self, spot: Spot) -> int:
        """Return the descriptor of a folder; it is valid until the next call.

        :raises ChangedError: if the folder is no more there, or is none any more.
        :raises PermissionError: if it may not be read.
        """
        levels, wanted = self._levels, spot
        try:
            self._climb(spot)
        except ChangedError:  # an upper folder was moved: go by the names from the top
            while len(levels) > 1:
                self._drop(levels.pop())
        below = []
        while not self._has(wanted):
            below.append(wanted)
            assert wanted.parent is not None, "a spot of another tree"
            wanted = wanted.parent
        for step in reversed(below):
            self._down(step)
        return levels[-1].fd

    def _has(self, spot: Spot) -> bool:
        return spot.depth < len(self._levels) and self._levels[spot.depth].spot is spot

    def _climb(self, spot: Spot) -> None:
        """Go up to the deepest folder that is on the way to the spot."""
        above: Spot | None = spot
        while above is not None and not self._has(above):
            above = above.parent
        depth = above.depth if above is not None else 0
        while len(self._levels) > depth + 1:
            self._up()

    def _down(self, spot: Spot) -> None:
        levels = self._levels
        try:
            fd = os.open(spot.name, DIRECTORY, dir_fd=levels[-1].fd)
        except OSError as exc:
            if exc.errno in _GONE:
                raise ChangedError(f"the folder {os.fsdecode(spot.name)!r} is gone") from exc
            raise
        levels.append(_Level(spot, fd))
        if len(levels) > self._window + 1:
            old = levels[-1 - self._window]
            if old.spot.depth:
                self._drop(old)

    def _up(self) -> None:
        left, above = self._levels[-1], self._levels[-2]
        try:
            if above.fd < 0:
                self._reopen(left, above)
        finally:
            self._drop(self._levels.pop())

    @staticmethod
    def _drop(level: _Level) -> None:
        if level.fd >= 0:
            os.close(level.fd)
            level.fd = -1

    @staticmethod
    def _reopen(left: _Level, above: _Level) -> None:
        try:
            fd = os.open("..", DIRECTORY, dir_fd=left.fd)
        except OSError as exc:  # it may be a folder that must not be entered
            raise ChangedError(f"the folder {os.fsdecode(left.spot.name)!r} has no way up") from exc
        found = os.fstat(fd)
        if (found.st_dev, found.st_ino) != (above.dev, above.ino):
            os.close(fd)
            raise ChangedError(f"the folder {os.fsdecode(left.spot.name)!r} was moved")
        above.fd = fd

    def close(self) -> None:
        """Close all descriptors."""
        for level in self._levels:
            self._drop(level)

    def __enter__(self) -> Walker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def is_fixed(fd: int) -> bool:
    """Whether an open folder is append-only or immutable (`chattr`): what is put there cannot be taken back."""
    if sys.platform != "linux":
        return False
    flags = bytearray(8)
    try:
        fcntl.ioctl(fd, _GET_FLAGS, flags)
    except OSError:  # a file system without them
        return False
    return bool(int.from_bytes(flags[:4], sys.byteorder) & _FIXED)


def chmod_at(fd: int, name: bytes, mode: int) -> None:
    """Set the mode of a folder that may be unreadable, without following a symlink in its place."""
    if not _O_PATH:
        os.chmod(name, mode, dir_fd=fd, follow_symlinks=False)
        return
    held = os.open(name, _O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
    try:
        if stat.S_ISDIR(os.fstat(held).st_mode):
            os.chmod(f"/proc/self/fd/{held}", mode)  # of what is held, whatever has the name by now
    finally:
        os.close(held)


def remove_at(fd: int, name: bytes) -> None:
    """Remove a file, a link or a whole folder by its name; nothing happens if it is not there."""
    try:
        os.unlink(name, dir_fd=fd)
    except FileNotFoundError:
        return
    except OSError as exc:
        if exc.errno not in (errno.EISDIR, errno.EPERM):  # EPERM: what POSIX says for a directory
            raise
        remove_tree(fd, name)


def remove_tree(fd: int, name: bytes) -> None:
    """Remove a folder with everything in it, of any depth; folders that forbid it are opened up first."""
    try:
        top = os.open(name, DIRECTORY, dir_fd=fd)
    except FileNotFoundError:
        return
    except PermissionError:
        chmod_at(fd, name, 0o700)
        top = os.open(name, DIRECTORY, dir_fd=fd)
    try:
        with Walker(top) as walker:
            _empty(walker)
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=fd)


def _empty(walker: Walker) -> None:
    """Remove what a folder holds: each folder below is visited twice, to empty it and to remove it."""
    pending: list[tuple[Spot, bool]] = [(walker.root, False)]
    while pending:
        spot, emptied = pending.pop()
        if emptied:
            if spot.parent is not None:
                os.rmdir(spot.name, dir_fd=walker.goto(spot.parent))
            continue
        pending.append((spot, True))
        here = _enter(walker, spot)
        with os.scandir(here) as entries:
            found = [(os.fsencode(e.name), e.is_dir(follow_symlinks=False)) for e in entries]
        for name, is_folder in found:
            if is_folder:
                pending.append((Spot(spot, name), False))
            else:
                os.unlink(name, dir_fd=here)


def _enter(walker: Walker, spot: Spot) -> int:
    try:
        fd = walker.goto(spot)
    except PermissionError:
        if spot.parent is None:
            raise
        chmod_at(walker.goto(spot.parent), spot.name, 0o700)
        fd = walker.goto(spot)
    if os.fstat(fd).st_mode & 0o700 != 0o700:
        os.fchmod(fd, 0o700)
    return fd

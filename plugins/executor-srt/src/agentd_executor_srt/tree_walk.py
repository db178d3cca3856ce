"""A walk over a folder that code has made as it liked: however deep, whoever may enter what, with few descriptors.

Used by the supervisor, with the standard library alone. Everything goes by descriptors: no link is followed, and no
other file system is entered. A folder that is closed to this process is opened for as long as the walk is in it.
"""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:  # without importing typing, which takes longer than all the rest
    from collections.abc import Iterator

__all__ = ["TreeEntry", "TreeWalk"]

MAX_OPEN = 16
"""How many folders are open at once, however deep the walk is; the way back up is `..`, checked by inode."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class TreeEntry:
    """One file of a walk: its folder's descriptor, its name and what lstat says."""

    __slots__ = ("name", "parent", "stat")

    def __init__(self, parent: int, name: str, found: os.stat_result) -> None:
        self.parent = parent
        self.name = name
        self.stat = found


class WalkLevel:
    """A folder on the way down."""

    __slots__ = ("descriptor", "identity", "mode", "name", "names")

    def __init__(self, descriptor: int, name: str, mode: int | None) -> None:
        found = os.fstat(descriptor)
        self.descriptor = descriptor  # -1 while it is closed to save descriptors
        self.name = name
        self.identity = (found.st_dev, found.st_ino)
        self.mode = mode  # what it gets back when it is left
        self.names = iter(os.listdir(descriptor))


class TreeWalk:
    """Iterate over every entry below an open folder, folders before what they hold.

    `missed` has, after it, the paths that could not be looked into, each with the reason.
    """

    def __init__(self, root: int) -> None:
        """`root` stays open and the caller's."""
        self._root = root
        self._device = os.fstat(root).st_dev
        self._levels: list[WalkLevel] = []
        self.missed: list[str] = []

    def __iter__(self) -> Iterator[TreeEntry]:
        self._levels = [WalkLevel(os.open(".", _FOLDER, dir_fd=self._root), ".", None)]
        try:
            while self._levels:
                level = self._levels[-1]
                for name in level.names:
                    found = self._look(level, name)
                    if found is None:
                        continue
                    yield TreeEntry(level.descriptor, name, found)
                    if stat.S_ISDIR(found.st_mode) and self._enter(level, name):
                        break
                else:
                    self._leave()
        finally:
            while self._levels:  # the walk was ended early
                self._leave()

    def _look(self, level: WalkLevel, name: str) -> os.stat_result | None:
        try:
            found = os.stat(name, dir_fd=level.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._miss(name, error)
            return None
        return found if found.st_dev == self._device else None

    def _enter(self, level: WalkLevel, name: str) -> bool:
        try:
            descriptor, mode = _open_folder(level.descriptor, name, self._device)
        except (FileNotFoundError, NotADirectoryError):  # gone, or something else, meanwhile
            return False
        except OSError as error:
            self._miss(name, error)
            return False
        self._levels.append(WalkLevel(descriptor, name, mode))
        if len(self._levels) > MAX_OPEN:
            _close(self._levels[-MAX_OPEN])  # never the one that is entered
        return True

    def _leave(self) -> None:
        """Go up, to the nearest folder that is still where it was."""
        while self._levels:
            left = self._levels.pop()
            above = self._levels[-1] if self._levels else None
            lost = above is not None and above.descriptor < 0 and not self._reopen(above, left.descriptor)
            if left.mode is not None and left.descriptor >= 0:
                _set_mode(left.descriptor, left.mode)
            _close(left)
            if not lost:
                return
            self._miss("", OSError(0, "a folder was moved while it was looked at"))

    def _reopen(self, level: WalkLevel, below: int) -> bool:
        """Open the folder that `below` is in, if it is this one; the topmost is known without a way up."""
        try:
            if level is self._levels[0]:
                descriptor = os.open(".", _FOLDER, dir_fd=self._root)
            else:
                descriptor = os.open("..", _FOLDER, dir_fd=below)
        except OSError:
            return False
        found = os.fstat(descriptor)
        if (found.st_dev, found.st_ino) != level.identity:
            os.close(descriptor)
            return False
        level.descriptor = descriptor
        return True

    def _miss(self, name: str, error: OSError) -> None:
        path = "/".join([*(level.name for level in self._levels[1:]), name])
        self.missed.append(f"{path}: {error.strerror}")


def _open_folder(parent: int, name: str, device: int) -> tuple[int, int | None]:
    """Open a folder, if need be by opening it to its owner; return the mode that it must get back then."""
    looked = os.open(name, _LOOK | os.O_DIRECTORY, dir_fd=parent)
    try:
        found = os.fstat(looked)
        if found.st_dev != device:
            raise NotADirectoryError
        mode = None
        if found.st_mode & 0o500 != 0o500 and found.st_uid == os.geteuid():
            mode = stat.S_IMODE(found.st_mode)
            os.chmod(f"/proc/self/fd/{looked}", mode | 0o700)
        return os.open(f"/proc/self/fd/{looked}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), mode
    finally:
        os.close(looked)


def _set_mode(descriptor: int, mode: int) -> None:
    try:
        os.fchmod(descriptor, mode)
    except OSError:  # it is no longer ours
        pass


def _close(level: WalkLevel) -> None:
    if level.descriptor >= 0:
        os.close(level.descriptor)
    level.descriptor = -1

"""Reads and writes files below one directory, and never outside it.

Code in the sandbox may write to the skills directory: a link or a FIFO may lie where a file is expected.
So every step goes through a directory descriptor and follows no link, and files are replaced whole.
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from pathlib import Path
from types import TracebackType
from typing import Final

from agentd.errors import UnsafePathError, WorkspaceError

from agentd_skills.sandbox.frontmatter import document_name

__all__ = ["SkillTree"]

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # NONBLOCK: a FIFO must not hang us
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class SkillTree:
    """An open directory; a context manager. Paths are relative, with `/`.

    :raises UnsafePathError: if the directory itself is a link, or lies where something else is.
    """

    def __init__(self, directory: Path) -> None:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._root = os.open(directory, _DIRECTORY)
        except OSError as error:
            raise UnsafePathError(
                f"the skills directory {directory} is a link or no directory that can be opened ({error.strerror}); "
                "remove it or name another"
            ) from error
        self._path = directory
        self._last: tuple[str, int] | None = None  # the folder used last: files come folder by folder

    def __enter__(self) -> SkillTree:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave_last()
        os.close(self._root)

    def folders(self, *, linked: bool = False) -> list[str]:
        """Return the names of the directories at the top, sorted, without hidden ones.

        :param linked: with links to directories, which people put there.
        """
        with os.scandir(self._root) as entries:
            return sorted(
                e.name for e in entries if not e.name.startswith(".") and e.is_dir(follow_symlinks=linked)
            )

    def document(self, folder: str, limit: int) -> bytes | None:
        """Return the beginning of the document of a skill, or None if the folder has none.

        The folder may be a link, as its skill is found by the code, too; the document may not.
        """
        try:
            opened = os.open(folder, _DIRECTORY & ~os.O_NOFOLLOW, dir_fd=self._root)
        except OSError:
            return None
        try:
            name = document_name(os.listdir(opened))
            descriptor = os.open(name, _READ, dir_fd=opened) if name else -1
        except OSError:
            return None
        finally:
            os.close(opened)
        if descriptor < 0:
            return None
        with open(descriptor, "rb") as file:
            return file.read(limit) if stat.S_ISREG(os.fstat(descriptor).st_mode) else None

    def remove_folder(self, folder: str) -> None:
        """Remove a directory at the top with all that is in it. A link of that name is left."""
        self._leave_last()
        if self.kind(folder) == "directory":
            shutil.rmtree(folder, dir_fd=self._root)

    def kind(self, path: str) -> str:
        """Return `file`, `directory`, `other` (a link, a FIFO, ...) or `` for nothing."""
        try:
            folder, name = self._enter(path, create=False)
            mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
        except OSError:
            return ""
        return "file" if stat.S_ISREG(mode) else "directory" if stat.S_ISDIR(mode) else "other"

    def state(self, path: str) -> tuple[int, int] | None:
        """Return size and mtime (ns) of a regular file, or None."""
        try:
            folder, name = self._enter(path, create=False)
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except OSError:
            return None
        return (found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else None

    def read(self, path: str, limit: int = 64 * 1024 * 1024) -> bytes | None:
        """Return at most `limit` bytes of a regular file, or None if there is none."""
        try:
            folder, name = self._enter(path, create=False)
            descriptor = os.open(name, _READ, dir_fd=folder)
        except OSError:
            return None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            return None
        with open(descriptor, "rb") as file:
            return file.read(limit)

    def write(self, path: str, data: bytes, *, executable: bool = False) -> None:
        """Put a file in place, whole or not at all. A link or FIFO of that name is replaced, not followed."""
        folder, name = self._enter(path, create=True)
        temporary = f".agentd-{secrets.token_hex(6)}"
        try:
            descriptor = os.open(temporary, _NEW, 0o600, dir_fd=folder)
            try:
                with open(descriptor, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fchmod(descriptor, 0o755 if executable else 0o644)
                    self._outdate_bytecode(folder, name, descriptor)
                os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                os.unlink(temporary, dir_fd=folder)
                raise
        except OSError as error:
            raise WorkspaceError(
                f"{self._path / path} cannot be written: {error.strerror}; is there a directory, or is the disk full?"
            ) from error

    @staticmethod
    def _outdate_bytecode(folder: int, name: str, descriptor: int) -> None:
        """Give a replaced module a later second: Python compares whole seconds and the size."""
        try:
            before = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return
        now = os.fstat(descriptor)
        if name.endswith(".py") and int(before.st_mtime) >= int(now.st_mtime):
            later = (int(before.st_mtime) + 1) * 1_000_000_000
            os.utime(descriptor, ns=(later, later))

    def remove(self, path: str) -> None:
        """Remove a file, if it is there, and then the folders above it that are empty."""
        try:
            folder, name = self._enter(path, create=False)
            os.unlink(name, dir_fd=folder)
        except OSError:
            return
        self._leave_last()
        parents = path.split("/")[:-1]
        while parents:
            try:
                folder, name = self._enter("/".join(parents), create=False)
                os.rmdir(name, dir_fd=folder)
            except OSError:  # not empty
                break
            finally:
                self._leave_last()
            parents.pop()

    def _enter(self, path: str, *, create: bool) -> tuple[int, str]:
        """Return a descriptor of the folder that holds `path`, and the last part of it."""
        head, _, name = path.rpartition("/")
        if not head:
            return self._root, name
        if self._last is not None and self._last[0] == head:
            return self._last[1], name
        self._leave_last()
        current = os.dup(self._root)
        try:
            for part in head.split("/"):
                following = self._open_folder(current, part, create)
                os.close(current)
                current = following
        except BaseException:
            os.close(current)
            raise
        self._last = (head, current)
        return current, name

    def _open_folder(self, parent: int, name: str, create: bool) -> int:
        try:
            return os.open(name, _DIRECTORY, dir_fd=parent)
        except OSError:
            if not create:
                raise
        try:
            if stat.S_ISLNK(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                os.unlink(name, dir_fd=parent)  # planted where our folder belongs
        except FileNotFoundError:
            pass
        try:
            os.mkdir(name, 0o755, dir_fd=parent)
        except FileExistsError:
            pass  # another process was faster, or a file is in the way: the open tells
        try:
            return os.open(name, _DIRECTORY, dir_fd=parent)
        except OSError as error:
            raise UnsafePathError(
                f"{name!r} in the skills directory {self._path} is no directory ({error.strerror}); move it away"
            ) from error

    def _leave_last(self) -> None:
        if self._last is not None:
            os.close(self._last[1])
            self._last = None

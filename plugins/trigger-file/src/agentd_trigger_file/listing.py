"""Which files a folder has, how they were when they were looked at, and what has changed between two looks."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import attrs
from agentd.errors import AgentdError, ConfigError

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

__all__ = ["FolderFiles", "FolderListing", "ListingChanges", "TooManyFilesError", "readable"]

_ENTRIES_PER_FILE: Final = 20
"""Entries of folders that are looked at for each file that may fit: a glob does not keep us out of folders."""

_PASSED_BY: Final = (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG)
"""What below the folder is gone meanwhile, not ours, or too deep for the system. Anything else, such as a mount that
does not answer, fails the look: its files would count as deleted."""

Stamp = tuple[int, int, int]
"""Of a file: the time of its last change in nanoseconds, its size, its inode."""


class TooManyFilesError(AgentdError):
    """The folder has more files than may be watched."""

    def __init__(self, folder: Path, what: str, most: int) -> None:
        super().__init__(
            f"{folder} has more than {most} {what}; name a smaller folder or narrower `globs`, or raise `max_files`"
        )


@attrs.frozen
class ListingChanges:
    """What has changed between two listings: paths in the folder, sorted."""

    created: Sequence[str]
    changed: Sequence[str]
    deleted: Sequence[str]

    def __bool__(self) -> bool:
        return bool(self.created or self.changed or self.deleted)


@attrs.frozen
class FolderListing:
    """The files of a folder at one moment.

    :ivar watched: what of: the folder and the globs. Listings of two are not compared.
    :ivar files: by path in the folder; None if there is no folder.
    :ivar number: how many events came before this.
    """

    watched: str
    files: Mapping[str, Stamp] | None
    number: int = 0

    def since(self, before: FolderListing) -> ListingChanges:
        """Return what has changed. A folder that is not there has no files."""
        old, new = before.files or {}, self.files or {}
        return ListingChanges(
            created=sorted(new.keys() - old.keys()),
            changed=sorted(path for path in new.keys() & old.keys() if new[path] != old[path]),
            deleted=sorted(old.keys() - new.keys()),
        )

    def dump(self) -> str:
        """Return it as a cursor."""
        return json.dumps([1, self.watched, self.number, self.files], separators=(",", ":"))

    @classmethod
    def load(cls, cursor: str | None) -> Self | None:
        """Return the listing of a cursor; None for what is none."""
        try:
            version, watched, number, files = json.loads(cursor or "")
            if version != 1:
                return None
            read = None if files is None else {path: tuple(stamp) for path, stamp in files.items()}
        except (ValueError, TypeError, AttributeError):
            return None
        return cls(watched, read, number)


@attrs.frozen
class FolderFiles:
    """The files of a folder that are watched.

    :ivar globs: as lines of a `.gitignore`.
    """

    folder: Path
    globs: tuple[str, ...]
    max_files: int
    _fits: GitIgnoreSpec = attrs.field(eq=False, repr=False)

    @classmethod
    def read(cls, folder: Path, globs: Sequence[Any], *, max_files: int) -> Self:
        """:raises ConfigError: for globs that are none."""
        from pathspec import GitIgnoreSpec

        what = "option 'globs' of the trigger 'file'"
        if not globs or not all(isinstance(glob, str) and glob.strip() for glob in globs):
            raise ConfigError(f"{what}: must be a list of texts such as '*.md', at least one")
        try:
            spec = GitIgnoreSpec.from_lines(globs)
        except ValueError as error:  # GitIgnorePatternError is one
            raise ConfigError(f"{what}: {error}") from None
        return cls(folder, tuple(globs), max_files, spec)

    @property
    def watched(self) -> str:
        """What tells this from other folders and globs."""
        return hashlib.sha256(json.dumps([str(self.folder), self.globs]).encode()).hexdigest()[:32]

    def look(self) -> FolderListing:
        """List the files. Blocks.

        :raises TooManyFilesError: there are too many.
        :raises OSError: the folder cannot be read.
        """
        try:
            if not stat.S_ISDIR(os.stat(self.folder).st_mode):
                raise NotADirectoryError(20, "is a file, and must be a folder", str(self.folder))
        except FileNotFoundError:
            return FolderListing(self.watched, None)
        files: dict[str, Stamp] = {}
        for path, entry in self._walk():
            if not self._fits.match_file(path):
                continue
            try:
                found = entry.stat(follow_symlinks=False)
            except OSError as error:
                if error.errno in _PASSED_BY:
                    continue
                raise
            if not (stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode)):
                continue  # whoever reads a pipe or a device may wait for ever
            if len(files) >= self.max_files:
                raise TooManyFilesError(self.folder, "files that fit", self.max_files)
            files[path] = (found.st_mtime_ns, found.st_size, found.st_ino)
        return FolderListing(self.watched, files)

    def _walk(self) -> Iterator[tuple[str, os.DirEntry[str]]]:
        """Yield files and links; folders behind links are not looked into."""
        left = self.max_files * _ENTRIES_PER_FILE
        waiting = [""]
        while waiting:
            below = waiting.pop()
            try:
                with os.scandir(self.folder / below) as entries:
                    for entry in entries:
                        left -= 1
                        if left < 0:
                            raise TooManyFilesError(
                                self.folder, "entries", self.max_files * _ENTRIES_PER_FILE
                            )
                        path = f"{below}{entry.name}"
                        if entry.is_dir(follow_symlinks=False):
                            waiting.append(f"{path}/")
                        else:
                            yield readable(path), entry
            except OSError as error:
                if not below or error.errno not in _PASSED_BY:
                    raise


def readable(path: str) -> str:
    """Return a path as a text that can be kept: bytes that are no UTF-8 are shown as `\\xff`."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")

"""Which entries of a workspace are no part of its snapshots."""

from __future__ import annotations

import copy
import os
import re
import stat
from collections.abc import Callable, Iterable
from fnmatch import translate

from agentd_snapshots.tree import FileTree, join
from agentd_snapshots.walker import DIRECTORY

__all__ = ["OWN_FOLDER", "REPLACED_PREFIX", "STAGING_PREFIX", "Paths", "Rules"]

OWN_FOLDER = b".agentd"
KEPT_OF_IT = b"site"
"""What blocks have installed with pip is a part of the workspace's state; the home and temporary folders are not."""
STAGING_PREFIX = b".agentd-restore-"
REPLACED_PREFIX = "replaced-by-"
Paths = Iterable[str | os.PathLike[str]]


class Rules:
    """Says of each entry whether it is left out.

    :param exclude: exact paths, relative to the workspace.
    :param ignore: patterns of `fnmatch`. With a slash they are compared with the path, without with the name.
    :param exclude_if: asked with the path of everything else; True leaves it out.
    """

    def __init__(
        self,
        *,
        exclude: Paths = (),
        ignore: Iterable[str] = (),
        exclude_if: Callable[[str], bool] | None = None,
    ) -> None:
        self._set_exact(os.fsencode(path) for path in exclude)
        ignore = list(ignore)
        self._names = _pattern(glob for glob in ignore if "/" not in glob)
        self._paths = _pattern(glob.strip("/") for glob in ignore if "/" in glob)
        self._exclude_if = exclude_if
        self._by_path = self._paths is not None or exclude_if is not None
        self.trivial = not (self._exact or ignore or exclude_if)
        self._own_kept = True

    def _set_exact(self, exclude: Iterable[bytes]) -> None:
        self._exact = {os.path.normpath(path) for path in exclude}
        self._exact_names = {path.rpartition(b"/")[2] for path in self._exact}

    def excluding(self, exclude: Paths) -> Rules:
        """The same with these exact paths as well."""
        other = copy.copy(self)
        other._set_exact([*self._exact, *map(os.fsencode, exclude)])
        other.trivial = not (other._exact or self._names or self._by_path)
        return other

    def fitting(self, root_fd: int, like: FileTree | None) -> Rules:
        """The same for a scan of this workspace: agentd's folder is left out, unless blocks have installed something,
        here or in the tree that the scan is for."""
        other = copy.copy(self)
        other._own_kept = _has_kept_part(root_fd) or (like is not None and OWN_FOLDER in like.children[0])
        return other

    def is_own(self, parent: bytes | None, name: bytes) -> bool:
        """Whether the entry is agentd's folder and nothing of it is kept: then it is as if it were not there."""
        return name == OWN_FOLDER and parent == b"" and not self._own_kept

    def excludes(self, parent: bytes | None, name: bytes) -> bool:
        """Whether the entry `name` of the folder with the path `parent` (None: too long) is left out."""
        if self.is_own(parent, name) or (parent == b"" and name.startswith(STAGING_PREFIX)):
            return True
        if parent == OWN_FOLDER and name != KEPT_OF_IT:
            return True
        if self.trivial:
            return False
        if self._names is not None and self._names(os.fsdecode(name)):
            return True
        if not (self._by_path or name in self._exact_names):
            return False
        path = join(parent, name)
        if path is None:
            return False
        if path in self._exact:
            return True
        text = os.fsdecode(path)
        if self._paths is not None and self._paths(text):
            return True
        return self._exclude_if is not None and self._exclude_if(text)


def _has_kept_part(root_fd: int) -> bool:
    try:
        own = os.open(OWN_FOLDER, DIRECTORY, dir_fd=root_fd)
    except OSError:  # it is not there, or somebody has put a link in its place
        return False
    try:
        return stat.S_ISDIR(os.stat(KEPT_OF_IT, dir_fd=own, follow_symlinks=False).st_mode)
    except OSError:
        return False
    finally:
        os.close(own)


def _pattern(globs: Iterable[str]) -> Callable[[str], object] | None:
    together = "|".join(translate(glob) for glob in globs)
    return re.compile(together).match if together else None

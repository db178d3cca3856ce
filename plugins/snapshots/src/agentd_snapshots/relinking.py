"""What in a copied workspace names the first one by its absolute path: git's files and symbolic links.

A linked worktree of git (`git worktree add`) has a file `.git` with the absolute path of its repository, and the
repository has the worktree's (gitrepository-layout(5)). In a copy, they would lead back: what is committed in the
copy would land in the first workspace.
"""

from __future__ import annotations

import os
import re

from agentd_snapshots.packs import write_all
from agentd_snapshots.rules import STAGING_PREFIX
from agentd_snapshots.scan import FILE
from agentd_snapshots.staging import NEW, settle, unknown_owner
from agentd_snapshots.tree import File, FileTree
from agentd_snapshots.walker import Spot, Walker

__all__ = ["relink"]

_GIT = b".git"
_PATHS = {b"gitdir", b"commondir", b"alternates"}
_CONFIGS = {b"config", b"config.worktree"}
_MAX = 1 << 20
_TEMPORARY = STAGING_PREFIX + b"link"


def relink(root_fd: int, tree: FileTree, old: bytes, new: bytes) -> list[str]:
    """Have everything that names a place in the folder `old` name that in its copy `new`.

    :param root_fd: the copy, which nobody has run code in yet.
    :return: git's files in it that lead to a repository or worktree outside, relative to the copy.
    """
    with Walker(root_fd) as walker:
        return _Relinker(walker, tree, old, new).run()


class _Relinker:
    def __init__(self, walker: Walker, tree: FileTree, old: bytes, new: bytes) -> None:
        self._walker = walker
        self._tree = tree
        self._old, self._new = old, new
        self._owners = os.geteuid() == 0
        path = re.escape(old)
        self._gitdir = re.compile(rb"^(gitdir:[ \t]*)%b(?=/|\s*$)" % path)
        self._line = re.compile(rb"^()%b(?=/|\s*$)" % path, re.MULTILINE)
        self._setting = re.compile(rb"(=[ \t]*\"?(?:file://)?)%b(?=[/\"\s]|$)" % path, re.MULTILINE)

    def run(self) -> list[str]:
        outside: list[str] = []
        spots = [self._walker.root]
        in_git = [False]
        for index, folder in enumerate(self._tree.folders):
            if index:
                spots.append(Spot(spots[folder.parent], folder.name))
                in_git.append(in_git[folder.parent] or folder.name == _GIT)
            changed = False
            for file in folder.files:
                if file.target is not None:
                    changed |= self._symlink(spots[index], file)
                elif pattern := self._pattern(file.name, in_git[index]):
                    text = self._read(spots[index], file)
                    mended = pattern.sub(lambda found: found[1] + self._new, text)
                    if mended != text:
                        self._replace(spots[index], file, mended)
                        changed = True
                    if self._leads_out(index, file.name, mended):
                        outside.append(os.fsdecode(self._tree.path(index, file.name) or file.name))
            if changed:
                settle(self._walker.goto(spots[index]), folder, owners=self._owners)
        return outside

    def _pattern(self, name: bytes, in_git: bool) -> re.Pattern[bytes] | None:
        if name == _GIT:
            return self._gitdir
        if not in_git:
            return None
        return self._line if name in _PATHS else self._setting if name in _CONFIGS else None

    def _leads_out(self, index: int, name: bytes, text: bytes) -> bool:
        """Whether git would go from this file to a place outside of the copy."""
        if name in _CONFIGS:
            return False
        for line in text.splitlines():
            path = line.removeprefix(b"gitdir:").strip()
            if not path:
                continue
            if not path.startswith(b"/") and name != b"alternates":  # those are relative to another folder
                path = os.path.normpath(os.path.join(self._new, self._tree.path(index) or b"", path))
            if path.startswith(b"/") and not (path + b"/").startswith(self._new + b"/"):
                return True
        return False

    # --- changing files --------------------------------------------------------------------------------

    def _read(self, spot: Spot, file: File) -> bytes:
        if file.size > _MAX:
            return b""
        fd = os.open(file.name, FILE, dir_fd=self._walker.goto(spot))
        try:
            return os.read(fd, _MAX)
        finally:
            os.close(fd)

    def _symlink(self, spot: Spot, file: File) -> bool:
        target = file.target or b""
        if not (target + b"/").startswith(self._old + b"/"):
            return False
        here = self._open_up(spot)
        os.symlink(self._new + target[len(self._old) :], _TEMPORARY, dir_fd=here)
        if self._owners:
            with unknown_owner():
                os.chown(_TEMPORARY, file.uid, file.gid, dir_fd=here, follow_symlinks=False)
        os.utime(_TEMPORARY, ns=(file.mtime_ns, file.mtime_ns), dir_fd=here, follow_symlinks=False)
        os.rename(_TEMPORARY, file.name, src_dir_fd=here, dst_dir_fd=here)
        return True

    def _replace(self, spot: Spot, file: File, text: bytes) -> None:
        here = self._open_up(spot)
        fd = os.open(_TEMPORARY, NEW, 0o600, dir_fd=here)
        try:
            write_all(fd, text)
            settle(fd, file, owners=self._owners)
        finally:
            os.close(fd)
        os.rename(_TEMPORARY, file.name, src_dir_fd=here, dst_dir_fd=here)

    def _open_up(self, spot: Spot) -> int:
        """Return the folder's descriptor, with the right to write there; `settle` gives it its mode back."""
        here = self._walker.goto(spot)
        if not self._owners:
            os.fchmod(here, 0o700)
        return here

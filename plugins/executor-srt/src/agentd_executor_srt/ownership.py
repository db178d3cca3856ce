"""Changing whose the files of a folder are, and back, exactly those that were looked at and through no link.

Used by the supervisor (`handover`), with the standard library alone.
"""

from __future__ import annotations

import os
import stat
import time

from agentd_executor_srt.tree_walk import TreeWalk

TYPE_CHECKING = False
if TYPE_CHECKING:  # without importing typing, which takes longer than all the rest
    from collections.abc import Generator

    from agentd_executor_srt.tree_walk import TreeEntry

__all__ = ["UIDS", "TreeGift", "take_back"]

UIDS = range(58000, 60000)
"""Where ids are taken from: below what systems give away by themselves, above what accounts use."""


class TreeGift:
    """Hands over what is the owner's in an open folder, step by step: itself at once, and what it holds with `go_on`.

    Files with several names are handed over once all of these have been seen in the folder: what is linked from
    elsewhere too is not in our gift. Where code is at work already it could move one name about until the numbers
    match, so that is left out then.
    """

    def __init__(self, folder: int, owner: int, uid: int) -> None:
        """`folder` stays open, and the caller's, until the end."""
        self._folder, self._owner, self._uid = folder, owner, uid
        self.code_runs = os.fstat(folder).st_uid != owner  # that of a session that shares the id
        _change_folder(folder, owner, uid, -1)
        self._steps = self._walk()

    def go_on(self, deadline: float | None = None) -> bool:
        """Go on until `deadline`, of the monotonic clock; return whether all is done."""
        return all(deadline is None or time.monotonic() < deadline for _ in self._steps)

    def close(self) -> None:
        """Leave what is not done."""
        self._steps.close()

    def _walk(self) -> Generator[None]:
        names: dict[int, int] = {}  # by inode, of files that have several names
        for entry in TreeWalk(self._folder):
            if entry.stat.st_uid == self._owner and _several(entry.stat):
                names[entry.stat.st_ino] = names.get(entry.stat.st_ino, 0) + 1
            elif entry.stat.st_uid == self._owner:
                _change(entry, self._owner, self._uid, -1)
            yield
        for entry in TreeWalk(self._folder) if names else ():
            if self.code_runs:
                return
            if _several(entry.stat) and names.get(entry.stat.st_ino) == entry.stat.st_nlink:
                _change(entry, self._owner, self._uid, -1)
            yield


def _several(found: os.stat_result) -> bool:
    return found.st_nlink > 1 and not stat.S_ISDIR(found.st_mode)


def take_back(folder: int, uid: int, owner: tuple[int, int], deadline: float | None = None) -> list[str]:
    """Give back what is the id's, the folder last, and return what could not be given back, with the reason.

    At `deadline`, of the monotonic clock, the rest is left.
    """
    walk = TreeWalk(folder)
    for entry in walk:
        if deadline is not None and time.monotonic() > deadline:
            return [*walk.missed, f"what comes after {entry.name}: there was no time to look at it"]
        if entry.stat.st_uid == uid and not _change(entry, uid, owner[0], _group(entry.stat, uid, owner)):
            walk.missed.append(f"{entry.name}: its owner cannot be changed")
    _change_folder(folder, uid, owner[0], _group(os.fstat(folder), uid, owner))
    return walk.missed


def _group(found: os.stat_result, uid: int, owner: tuple[int, int]) -> int:
    return owner[1] if found.st_gid == uid else -1


def _change_folder(folder: int, before: int, uid: int, gid: int) -> None:
    if os.fstat(folder).st_uid == before:  # and no other folder that took its place meanwhile
        os.fchown(folder, uid, gid)


def _change(entry: TreeEntry, before: int, uid: int, gid: int) -> bool:
    """Change the owner of exactly the file that was looked at, and of no other that took its name.

    Returns whether that is done, or is not to be done.
    """
    if before not in UIDS and stat.S_ISREG(entry.stat.st_mode) and entry.stat.st_mode & 0o6000:
        return True  # the owner's own setuid program would lose its bit
    try:
        descriptor = os.open(entry.name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=entry.parent)
    except OSError:  # it is gone
        return True
    try:
        found = os.fstat(descriptor)
        if (found.st_ino, found.st_uid) == (entry.stat.st_ino, before):
            os.chown(f"/proc/self/fd/{descriptor}", uid, gid)
        return True
    except OSError:  # an immutable file
        return False
    finally:
        os.close(descriptor)

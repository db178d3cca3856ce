"""What a restore has to do: the differences between the workspace as it is and as it shall be."""

from __future__ import annotations

import os

import attrs
from agentd.errors import SnapshotError

from agentd_snapshots.tree import File, FileTree, Folder
from agentd_snapshots.walker import Spot

__all__ = ["FolderWork", "Plan", "make_plan"]

_UNTOUCHED = {"excluded", "mount point"}


@attrs.define
class FolderWork:
    """What to do in one folder that is there before and after.

    `drop` are names to take away, `put` names to fill with a file or (its index in the target) a folder, after
    the drops; `touch` are files of which only mode, times or owner differ. `after` is what the folder itself
    shall look like, `index` its number in the tree as it is.
    """

    spot: Spot
    index: int
    before: Folder
    after: Folder
    drop: list[bytes] = attrs.field(factory=list)
    put: list[tuple[bytes, File | int]] = attrs.field(factory=list)
    touch: list[tuple[File, File]] = attrs.field(factory=list)

    @property
    def entries(self) -> bool:
        """Whether something in the folder changes."""
        return bool(self.drop or self.put or self.touch)


@attrs.define
class Plan:
    """All folders with something to do, parents first. The first one is the root, whatever is to do in it.

    `needed` is False if there is nothing to do at all.
    """

    target: FileTree
    works: list[FolderWork]
    needed: bool


def make_plan(current: FileTree, target: FileTree) -> Plan:
    """Compare two trees.

    Whatever the target leaves out, and what is excluded now, stays as it is. Sockets, FIFOs and unreadable
    files that came later go.

    :raises SnapshotError: if something excluded is in the way of a file.
    """
    return _Planner(current, target).run()


@attrs.define
class _Linked:
    """One name of a hard-linked file of the target."""

    work: FolderWork
    wanted: File
    now: File | None
    occupied: bool


class _Planner:
    def __init__(self, current: FileTree, target: FileTree) -> None:
        self._current = current
        self._target = target
        self._owners = hasattr(os, "geteuid") and os.geteuid() == 0
        self._guarded = _guarded_folders(current)
        self._links: dict[int, list[_Linked]] = {}
        self._new_links: set[int] = set()  # links with a name inside a folder that is made anew
        self._inside: dict[int, int] = {}
        for file in current.files():
            if file.link:
                self._inside[file.link] = self._inside.get(file.link, 0) + 1

    def run(self) -> Plan:
        """Walk both trees."""
        works: list[FolderWork] = []
        pending: list[tuple[Spot, int, int | None]] = [(Spot(None, b""), 0, 0)]
        while pending:
            spot, now, wanted = pending.pop()
            before = self._current.folders[now]
            after = before if wanted is None else self._target.folders[wanted]
            work = FolderWork(spot, now, before, after)
            pending += self._folder(work, now, wanted)
            works.append(work)
        for group in self._links.values():
            self._group(group)
        rest = [work for work in works[1:] if work.entries or self._differs(work)]
        needed = bool(rest) or works[0].entries or self._differs(works[0])
        return Plan(self._target, [works[0], *rest], needed)

    def _differs(self, work: FolderWork) -> bool:
        return self._meta_differs(work.before, work.after)

    def _folder(self, work: FolderWork, now: int, wanted: int | None) -> list[tuple[Spot, int, int | None]]:
        """Compare one folder; return the subfolders to compare."""
        before = work.before
        files = {file.name: file for file in before.files}
        folders = self._current.children[now]
        fixed = {name for name, reason in before.left if reason in _UNTOUCHED}
        others = {name for name, _ in before.left} - fixed
        want_files: list[File] = []
        want_folders: dict[bytes, int] = {}
        if wanted is not None:
            fixed |= {name for name, _ in work.after.left}
            want_files = work.after.files
            want_folders = self._target.children[wanted]
        staying = {file.name for file in want_files} | want_folders.keys()
        deeper: list[tuple[Spot, int, int | None]] = []
        for name in [*files, *folders, *sorted(others)]:
            if name in staying or name in fixed:
                continue
            if name in folders and folders[name] in self._guarded:
                deeper.append((Spot(work.spot, name), folders[name], None))
            else:
                work.drop.append(name)
        for file in want_files:
            if not file.link and file == files.get(file.name):
                continue  # the same inode, unchanged since: nearly all of them
            if file.name not in fixed:
                occupied = file.name in folders or file.name in others
                if file.name in folders and folders[file.name] in self._guarded:
                    self._refuse(now, file.name)
                self._file(work, file, files.get(file.name), occupied)
        for name, index in want_folders.items():
            if name in fixed:
                continue
            if name in folders:
                deeper.append((Spot(work.spot, name), folders[name], index))
                continue
            if name in files or name in others:
                work.drop.append(name)
            work.put.append((name, index))
            self._note_links(index)
        return deeper

    def _file(self, work: FolderWork, wanted: File, now: File | None, occupied: bool) -> None:
        if wanted.link:
            self._links.setdefault(wanted.link, []).append(_Linked(work, wanted, now, occupied))
            return
        if now is None or now.link or not now.same_content(wanted):
            self._replace(work, wanted, occupied or now is not None)
        elif self._meta_differs(now, wanted):
            if now.nlink == 1 and now.target is None:
                work.touch.append((now, wanted))
            else:  # a name outside must not notice; and links have no mode to set
                self._replace(work, wanted, True)

    @staticmethod
    def _replace(work: FolderWork, wanted: File, occupied: bool) -> None:
        if occupied:
            work.drop.append(wanted.name)
        work.put.append((wanted.name, wanted))

    def _group(self, group: list[_Linked]) -> None:
        """Hard links are right only together: one inode, no other name in the workspace has it."""
        link = group[0].wanted.link
        first = group[0].now
        if (
            link not in self._new_links
            and first is not None
            and first.link
            and self._inside[first.link] == len(group)
            and all(
                one.now is not None
                and one.now.link == first.link
                and one.now.same_content(one.wanted)
                and not self._meta_differs(one.now, one.wanted)
                for one in group
            )
        ):
            return
        for one in group:
            self._replace(one.work, one.wanted, one.occupied or one.now is not None)

    def _meta_differs(self, now: File | Folder, wanted: File | Folder) -> bool:
        return (
            now.mode != wanted.mode
            or now.mtime_ns != wanted.mtime_ns
            or (self._owners and (now.uid, now.gid) != (wanted.uid, wanted.gid))
        )

    def _note_links(self, index: int) -> None:
        """Remember which hard links have names below a folder that will be made."""
        pending = [index]
        while pending:
            at = pending.pop()
            self._new_links.update(file.link for file in self._target.folders[at].files if file.link)
            pending += self._target.children[at].values()

    def _refuse(self, folder: int, name: bytes) -> None:
        path = self._current.path(folder, name) or name
        raise SnapshotError(
            f"the folder {os.fsdecode(path)!r} is in the way of a file and holds something excluded from snapshots; "
            "move it away and restore again"
        )


def _guarded_folders(tree: FileTree) -> set[int]:
    """The folders below which something must stay untouched."""
    guarded: set[int] = set()
    for index, folder in enumerate(tree.folders):
        if any(reason in _UNTOUCHED for _, reason in folder.left):
            while index > 0 and index not in guarded:
                guarded.add(index)
                index = tree.folders[index].parent
    return guarded

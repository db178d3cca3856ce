"""Restores that were killed: how they are found, finished where nobody loses anything, and otherwise reported.

A restore leaves a mark in the user's state folder (`agentd.workspace.unfinished_dir`) while it is at work, wherever
its store lies. Whatever opens the workspace to run code finds it there.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
from agentd.errors import SnapshotError
from agentd.statedir import make_private
from agentd.workspace import unfinished_dir

from agentd_snapshots.journal import RestoreJournal
from agentd_snapshots.rules import REPLACED_PREFIX
from agentd_snapshots.tree import join
from agentd_snapshots.walker import DIRECTORY, ChangedError, remove_at

if TYPE_CHECKING:
    from agentd_snapshots.plan import Plan
    from agentd_snapshots.store import PackStore
    from agentd_snapshots.tree import File, FileTree

__all__ = [
    "UnfinishedRestoreError",
    "free_replaced",
    "keep_replaced",
    "marked",
    "marked_store",
    "newer_paths",
    "old_entries",
    "remove_staging",
    "unmark",
]

log = logging.getLogger("agentd.snapshots")

MARK = "snapshot_store.packs"
_SHOWN = 10
_CLOSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR}  # a home that cannot be written to


class UnfinishedRestoreError(SnapshotError):
    """A restore was interrupted, and files have changed since that its end would replace or remove.

    `paths` are these files, relative to the workspace. `Snapshots.finish_restore` and `Snapshots.abandon_restore`
    are the two ways to go on.
    """

    def __init__(
        self, workspace: Path, store: Path, snapshot_id: str, paths: list[str], *, kept: str | None = None
    ) -> None:
        self.workspace = workspace
        self.snapshot_id = snapshot_id
        self.paths = tuple(paths)
        shown = ", ".join(map(repr, paths[:_SHOWN])) + (", ..." if len(paths) > _SHOWN else "")
        where = shlex.join([str(workspace), str(store.parent)])
        command = f"python -m agentd_snapshots {{}} {where}"
        before = "" if kept is None else f" (before it was first finished, it was kept in {kept!r})"
        super().__init__(
            f"restoring {snapshot_id!r} in {str(workspace)!r} was interrupted, and since then something has changed "
            f"what its end would remove ({len(paths)}: {shown}). Either finish it, which keeps the workspace as it "
            f"is now in a snapshot first{before}: {command.format('finish')}. Or leave the workspace as it is: "
            f"{command.format('abandon')}"
        )


# --- marks ----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def marked(workspace: Path, store: PackStore) -> Iterator[None]:
    """Mark a workspace while a restore is at work, for those who do not know its store."""
    mark = unfinished_dir(workspace) / MARK
    try:
        make_private(mark.parent)
        mark.write_bytes(os.fsencode(store.folder))
    except OSError as exc:
        if exc.errno not in _CLOSED:
            raise
        log.info(
            "%s: a restore that is killed will be found by those who open this store only: %s",
            store.folder,
            exc,
        )
    try:
        yield
    finally:
        if not RestoreJournal.left(store):  # else it could not be taken back
            unmark(workspace)


def marked_store(workspace: Path) -> Path | None:
    """The store whose restore was killed in this workspace."""
    try:
        return Path(os.fsdecode((unfinished_dir(workspace) / MARK).read_bytes()))
    except OSError:
        return None


def unmark(workspace: Path) -> None:
    """Remove the mark."""
    folder = unfinished_dir(workspace)
    with contextlib.suppress(OSError):
        (folder / MARK).unlink(missing_ok=True)
        folder.rmdir()  # fails if another plugin has a mark there


# --- what is newer ----------------------------------------------------------------------------------------------


def old_entries(plan: Plan, current: FileTree) -> tuple[list[str], dict[str, list[int]]]:
    """What a plan drops: the paths in order, and all that is at and below them, for the journal."""
    drops: list[str] = []
    old: dict[str, list[int]] = {}
    for drop in _drops(plan, current):
        drops.append(drop.path)
        old.update(_entries(current, drop))
    return drops, old


def newer_paths(plan: Plan, current: FileTree, journal: RestoreJournal) -> list[str]:
    """What a restore that is done again would drop though it was not there, or was another file, the first time."""
    found = []
    for drop in _drops(plan, current):
        if drop.now is not None and drop.wanted is not None and drop.now.same_content(drop.wanted):
            continue  # put there by the first one: a hard link, say
        entries = _entries(current, drop)
        found += [path for path, what in entries if not path or journal.old.get(path) != what]
    return sorted(found)


@attrs.frozen
class _Drop:
    """Something that goes: its path, what it is if it is a file, its number if it is a folder, and the file that
    comes in its place."""

    path: str
    now: File | None
    folder: int | None
    wanted: File | None


def _drops(plan: Plan, current: FileTree) -> Iterator[_Drop]:
    for work in plan.works:
        if not work.drop:
            continue
        put = {name: item for name, item in work.put if not isinstance(item, int)}
        files = {file.name: file for file in work.before.files}
        folders = current.children[work.index]
        above = current.path(work.index)
        for name in work.drop:
            yield _Drop(_text(join(above, name)), files.get(name), folders.get(name), put.get(name))


def _entries(tree: FileTree, drop: _Drop) -> Iterator[tuple[str, list[int]]]:
    """Everything at and below something that goes, with what tells it from others."""
    if drop.folder is None:
        yield drop.path, _identity(drop.now)
        return
    pending = [drop.folder]
    while pending:
        index = pending.pop()
        above = tree.path(index)
        yield _text(above), _identity(None)
        for file in tree.folders[index].files:
            yield _text(join(above, file.name)), _identity(file)
        for left, _ in tree.folders[index].left:
            yield _text(join(above, left)), _identity(None)
        pending += tree.children[index].values()


def _identity(file: File | None) -> list[int]:
    return [0, 0, 0] if file is None else [file.ino, file.mtime_ns, file.size]


def _text(path: bytes | None) -> str:
    return os.fsdecode(path or b"")


# --- what was taken away -------------------------------------------------------------------------------


def remove_staging(root_fd: int, name: str) -> None:
    """Remove the staging folder of a restore that has ended, one way or the other.

    What cannot be removed (somebody else's files in a folder that was moved there, say) undoes nothing of it.
    """
    try:
        remove_at(root_fd, os.fsencode(name))
    except (OSError, ChangedError) as exc:
        log.warning(
            "%r in the workspace, which a restore has used, could not be removed: %s; it is no part of snapshots: "
            "remove it by hand",
            name,
            exc,
        )


def free_replaced(root_fd: int, snapshot_id: str) -> str:
    """A name that nothing has, for what an interrupted restore had taken away."""
    return _free_name(root_fd, f"{REPLACED_PREFIX}{snapshot_id}")


def keep_replaced(root_fd: int, journal: RestoreJournal) -> str | None:
    """Put what an interrupted restore had taken away into a folder of the workspace, each under its old path.

    What several attempts have taken away goes into folders `1`, `2` and so on there: each may have had the same path.
    May be done again after a kill. Returns the folder's name; None if there is nothing.
    """
    assert journal.replaced is not None
    attempts = journal.attempts
    with _made(root_fd, journal.replaced) as kept:
        for number, (staging, drops) in enumerate(attempts, 1):
            if len(attempts) == 1:
                _give_back(root_fd, staging, drops, kept)
                continue
            with _made(kept, str(number)) as own:
                _give_back(root_fd, staging, drops, own)
            _remove_empty(kept, str(number))
    if _remove_empty(root_fd, journal.replaced):
        return None
    return journal.replaced


@contextlib.contextmanager
def _made(above: int, name: str | bytes) -> Iterator[int]:
    """A folder, made if it is not there, and open."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=above)
    fd = os.open(name, DIRECTORY, dir_fd=above)
    try:
        yield fd
    finally:
        os.close(fd)


def _remove_empty(above: int, name: str) -> bool:
    try:
        os.rmdir(name, dir_fd=above)
    except OSError:
        return False
    return True


def _give_back(root_fd: int, staging: str, drops: list[str], kept: int) -> None:
    try:
        source = os.open(staging, DIRECTORY, dir_fd=root_fd)
    except FileNotFoundError:
        return
    try:
        for number, path in enumerate(drops, 1):
            _place(source, b"o%d" % number, kept, os.fsencode(path))
    finally:
        os.close(source)
    remove_staging(root_fd, staging)


def _free_name(fd: int, base: str) -> str:
    taken = set(os.listdir(fd))
    names = (base if number == 1 else f"{base}-{number}" for number in range(1, len(taken) + 2))
    return next(name for name in names if name not in taken)


def _place(source: int, name: bytes, kept: int, path: bytes) -> None:
    """Move an entry below another folder, whose folders on the way are made."""
    *folders, last = path.split(b"/")
    with contextlib.ExitStack() as opened:
        for folder in folders:
            kept = opened.enter_context(_made(kept, folder))
        if _there(kept, last):  # somebody has worked here, between a kill and now
            last = os.fsencode(_free_name(kept, os.fsdecode(last)))
        with contextlib.suppress(FileNotFoundError):  # the restore did not come so far
            os.rename(name, last, src_dir_fd=source, dst_dir_fd=kept)


def _there(fd: int, name: bytes) -> bool:
    try:
        os.lstat(name, dir_fd=fd)
    except FileNotFoundError:
        return False
    return True

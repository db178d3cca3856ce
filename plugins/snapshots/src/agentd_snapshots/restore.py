"""Bringing a workspace to a tree: staged first, then by renames that can be taken back.

Until the last rename is done, everything old still lies in the staging folder, so a failure takes all back. If
the process is killed, the journal in the store tells the next one what to do (`recover`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator

import attrs
from agentd.errors import SnapshotError

from agentd_snapshots.content import ContentReader, Poll
from agentd_snapshots.journal import RestoreJournal
from agentd_snapshots.plan import FolderWork, Plan, make_plan
from agentd_snapshots.rules import STAGING_PREFIX, Rules
from agentd_snapshots.scan import FILE, Scan, Scanner, StatCache
from agentd_snapshots.staging import Staging, settle
from agentd_snapshots.store import PackStore
from agentd_snapshots.tree import File, FileTree, Folder
from agentd_snapshots.unfinished import newer_paths, old_entries, remove_staging
from agentd_snapshots.walker import ChangedError, Spot, Walker, chmod_at, is_fixed

__all__ = ["Restorer", "sweep"]

_ATTEMPTS = 3
_IN_THE_WAY = {errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR}


@attrs.define(kw_only=True)
class Restorer:
    """Restores the tree of one snapshot into an open folder. The store is locked meanwhile.

    :param journaled: False for a folder that nobody else knows yet.
    :param new: the folder was made just now and gets the owner that the snapshot knows. Otherwise what belonged to the
        workspace's owner then belongs to its owner now: a sandbox may have it handed over to a user of its own.
    :param redo: what a restore that was killed has written; it is done again.
    :param ask: called before a restore is done again that would remove newer work, with its paths; may raise.
    """

    store: PackStore
    root_fd: int
    snapshot_id: str
    rules: Rules
    cache: StatCache
    poll: Poll
    journaled: bool = True
    new: bool = False
    redo: RestoreJournal | None = None
    ask: Callable[[list[str]], None] | None = None

    def run(self) -> Scan:
        """Restore, and return the scan of what was there before.

        :raises SnapshotError: if the workspace kept changing; it is then as it was, as far as we touched it.
        """
        target = self.store.tree(self.snapshot_id)
        for _ in range(_ATTEMPTS):
            try:
                return self._attempt(target)
            except ChangedError as exc:
                last = exc
        raise SnapshotError(
            f"snapshot {self.snapshot_id!r} was not restored: something kept changing the workspace meanwhile "
            f"({last}); end what runs in it and restore again"
        )

    def newer(self) -> list[str]:
        """The paths of newer work that this restore would remove if it was done again now."""
        assert self.redo is not None
        scan, plan = self._planned(self.store.tree(self.snapshot_id))
        return newer_paths(plan, scan.tree, self.redo)

    def _attempt(self, target: FileTree) -> Scan:
        scan, plan = self._planned(target)
        if self.redo is not None:
            newer = sorted({*self.redo.newer, *newer_paths(plan, scan.tree, self.redo)})
            if newer and self.ask is not None:
                self.ask(newer)
            self.redo = attrs.evolve(self.redo, newer=newer)
        if plan.needed:
            self._carry_out(plan, scan, target.folders[0])
        return scan

    def _planned(self, target: FileTree) -> tuple[Scan, Plan]:
        scan = self._scan(target)
        if not self.new:
            target.belong_to(scan.tree.folders[0].uid, scan.tree.folders[0].gid)
        return scan, make_plan(scan.tree, target)

    def _scan(self, target: FileTree) -> Scan:
        scanner = Scanner(
            self.root_fd,
            rules=self.rules,
            reader=ContentReader(poll=self.poll),
            cache=self.cache,
            like=target,
            poll=self.poll,
        )
        return scanner.scan()

    def _carry_out(self, plan: Plan, scan: Scan, after: Folder) -> None:
        name = os.fsdecode(STAGING_PREFIX) + secrets.token_hex(8)
        before = scan.tree.folders[0]
        applying = self._applying(plan, scan, name, after)
        if self.redo:  # in a folder of its own: what the killed one has taken away stays until the end
            self.redo = applying
            self._journal(self.redo)
        else:
            self._journal(RestoreJournal("staging", self.snapshot_id, name, before.mtime_ns))
        raw = os.fsencode(name)
        staging = Staging(self.root_fd, raw, plan.target, read=self.store.packs.read, poll=self.poll)
        changes = _Changes(self.root_fd, plan, staging)
        try:
            staging.open()
            changes.stage()
            if not self.redo:
                self._journal(applying)
            changes.apply()
        except BaseException as exc:
            if not self.redo:  # what was there before a redo is a mix: the journal stays
                self._take_back(changes, name, before, exc)
            raise
        finally:
            changes.close()
            staging.close()
        if self.journaled:
            RestoreJournal.applied(self.store)
        sweep(self.root_fd, applying)
        self._clear()

    def _applying(self, plan: Plan, scan: Scan, staging: str, after: Folder) -> RestoreJournal:
        drops, old = old_entries(plan, scan.tree)
        paths = (scan.tree.path(at, name) for at, name, why in scan.left_out if why == "excluded")
        excluded = [os.fsdecode(path) for path in paths if path]
        journal = RestoreJournal("applying", self.snapshot_id, staging, after.mtime_ns, drops, old, excluded)
        if self.redo is None:
            return journal
        return attrs.evolve(
            journal,
            old={**self.redo.old, **old},
            excluded=[*{*self.redo.excluded, *excluded}],
            earlier=self.redo.attempts,
            newer=self.redo.newer,
            kept=self.redo.kept,
        )

    def _take_back(self, changes: _Changes, staging: str, before: Folder, reason: BaseException) -> None:
        try:
            changes.undo()
        except (OSError, ChangedError) as exc:
            raise SnapshotError(
                f"restoring {self.snapshot_id!r} failed ({reason}) and could not be taken back ({exc}); "
                "what is missing lies in the workspace's staging folder, and the next snapshot or restore "
                "finishes this one first"
            ) from reason
        remove_staging(self.root_fd, staging)
        _set_mtime(self.root_fd, before.mtime_ns)
        self._clear()

    def _journal(self, journal: RestoreJournal) -> None:
        if self.journaled:
            journal.write(self.store)

    def _clear(self) -> None:
        if self.journaled:
            RestoreJournal.clear(self.store)


class _Changes:
    """The changes of one plan, and the way back."""

    def __init__(self, root_fd: int, plan: Plan, staging: Staging) -> None:
        self._plan = plan
        self._staging = staging
        self._walker = Walker(root_fd, plan.works[0].spot)
        self._owners = hasattr(os, "geteuid") and os.geteuid() == 0
        self._staged: list[list[tuple[bytes, bytes, File | int]]] = []
        self._back: list[tuple[Spot, Callable[[int], None]]] = []
        self._applied = False

    def stage(self) -> None:
        """Make everything new, where nobody looks.

        :raises SnapshotError: if a folder is such that a change could not be taken back.
        """
        for work in self._plan.works:
            if is_fixed(self._walker.goto(work.spot)):
                name = os.fsdecode(work.spot.name) or "."
                raise SnapshotError(
                    f"the folder {name!r} is append-only or immutable: nothing was restored; end that "
                    "(chattr -a -i) and restore again"
                )
            self._staged.append(
                [(name, self._staging.new(item, name), item) for name, item in work.put] if work.put else []
            )

    def apply(self) -> None:
        """Put everything in its place.

        :raises ChangedError: if the workspace is no more what it was when the plan was made.
        """
        self._applied = True
        settled: list[tuple[Spot, Folder]] = []
        for work, staged in zip(self._plan.works, self._staged, strict=True):
            settled.append((work.spot, work.after))
            if not work.entries:
                continue
            here = self._open_up(work)
            for name in work.drop:
                self._drop(work.spot, here, name)
            for name, staged_name, item in staged:
                self._put(work.spot, here, name, staged_name)
                if isinstance(item, int):
                    settled.append((Spot(work.spot, name), self._plan.target.folders[item]))
            for now, wanted in work.touch:
                self._touch(work.spot, here, now, wanted)
        for spot, folder in reversed(settled):  # the deepest first: then a folder may be closed to us
            settle(self._walker.goto(spot), folder, owners=self._owners)

    def undo(self) -> None:
        """Take everything back."""
        while self._back:
            spot, step = self._back.pop()
            step(self._walker.goto(spot))
        if self._applied:
            for work in reversed(self._plan.works):
                with contextlib.suppress(
                    ChangedError
                ):  # a folder that somebody took away has no time to get back
                    settle(self._walker.goto(work.spot), work.before, owners=self._owners)

    def close(self) -> None:
        """Close what is open."""
        self._walker.close()

    def _open_up(self, work: FolderWork) -> int:
        here = self._walker.goto(work.spot)
        mode = work.before.mode
        if mode & 0o700 != 0o700 and not self._owners:
            os.fchmod(here, mode | 0o700)
        return here

    def _drop(self, spot: Spot, here: int, name: bytes) -> None:
        old, staging = self._staging.old_name(), self._staging.fd
        try:
            os.rename(name, old, src_dir_fd=here, dst_dir_fd=staging)
        except FileNotFoundError:
            return
        except PermissionError:  # a folder that must not be written to cannot be moved
            mode = stat.S_IMODE(os.stat(name, dir_fd=here, follow_symlinks=False).st_mode)
            chmod_at(here, name, 0o700)
            self._back.append((spot, lambda fd: chmod_at(fd, name, mode)))
            os.rename(name, old, src_dir_fd=here, dst_dir_fd=staging)
        self._back.append((spot, lambda fd: os.rename(old, name, src_dir_fd=staging, dst_dir_fd=fd)))

    def _put(self, spot: Spot, here: int, name: bytes, staged: bytes) -> None:
        staging = self._staging.fd
        try:
            os.rename(staged, name, src_dir_fd=staging, dst_dir_fd=here)
        except OSError as exc:
            if exc.errno in _IN_THE_WAY:
                raise ChangedError(f"{os.fsdecode(name)!r} came or went") from exc
            raise
        self._back.append((spot, lambda fd: os.rename(name, staged, src_dir_fd=fd, dst_dir_fd=staging)))

    def _touch(self, spot: Spot, here: int, now: File, wanted: File) -> None:
        """Change mode and time of a file that must still be the one that was scanned, with no other name."""
        with _same_file(here, now) as fd:
            self._back.append((spot, lambda folder: self._touch_back(folder, now)))
            settle(fd, wanted, owners=self._owners)

    def _touch_back(self, here: int, now: File) -> None:
        with _same_file(here, now) as fd:
            settle(fd, now, owners=self._owners)


@contextlib.contextmanager
def _same_file(here: int, now: File) -> Iterator[int]:
    try:
        fd = os.open(now.name, FILE, dir_fd=here)
    except OSError as exc:
        raise ChangedError(f"{os.fsdecode(now.name)!r}: {exc.strerror}") from exc
    try:
        found = os.fstat(fd)
        if (found.st_dev, found.st_ino, found.st_nlink) != (now.dev, now.ino, 1):
            raise ChangedError(f"{os.fsdecode(now.name)!r} was replaced")
        yield fd
    finally:
        os.close(fd)


def sweep(root_fd: int, journal: RestoreJournal) -> None:
    """Remove the staging folders of a restore that has ended, and give the workspace's folder its time."""
    for staging, _ in journal.attempts:
        remove_staging(root_fd, staging)
    _set_mtime(root_fd, journal.root_mtime_ns)


def _set_mtime(fd: int, mtime_ns: int) -> None:
    """Set the time of an open folder."""
    os.utime(fd, ns=(mtime_ns, mtime_ns))

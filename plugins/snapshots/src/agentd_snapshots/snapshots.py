"""Snapshots of a workspace: take, restore, list, delete, compare."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from agentd.errors import CorruptSnapshotError, SnapshotError, UnknownSnapshotError
from agentd.selectors import check_label, pick

from agentd_snapshots.content import ContentReader, Poll
from agentd_snapshots.diff import diff_trees
from agentd_snapshots.journal import RestoreJournal
from agentd_snapshots.names import check_turn
from agentd_snapshots.packs import PackWriteError, PackWriter
from agentd_snapshots.place import store_folder
from agentd_snapshots.recovery import Recovery, go_on
from agentd_snapshots.relinking import relink
from agentd_snapshots.restore import Restorer
from agentd_snapshots.rules import Paths, Rules
from agentd_snapshots.scan import Scan, Scanner, StatCache
from agentd_snapshots.stoppable import run_stoppable
from agentd_snapshots.store import PackStore
from agentd_snapshots.unfinished import UnfinishedRestoreError, marked
from agentd_snapshots.values import Diff, LeftOut, Selector, Snapshot, SnapshotStats
from agentd_snapshots.verify import find_damage
from agentd_snapshots.walker import DIRECTORY

__all__ = ["Snapshots"]

log = logging.getLogger("agentd.snapshots")

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_MAX_REPORTED = 100
_MANY = 200
_SHOWN = 10


class Snapshots(Recovery):
    """The snapshots of one workspace, on disk, the same for every process.

    :param workspace: the folder. Nothing outside of it is read or written, whatever its code does meanwhile.
    :param base_dir: where snapshots lie, outside the workspace; by default in the user's state folder. Each
        workspace has a folder of its own in it.
    :param exclude: exact paths relative to the workspace that are no part of snapshots and that a restore does not
        touch; or a function that returns them, called each time (`lambda: executor.snapshot_exclude`).
    :param ignore: the same by `fnmatch` patterns: with a slash for the path, without for the name (`node_modules`).
    :param exclude_if: the same by a function of the path. agentd's own hidden folder is always left out.
    :param lock_timeout_s: how long to wait for another process that is at work in the same store.
    :param durable: False: nothing waits for the disk; for folders that nobody uses after a crash of the machine.
    :param settle: False leaves a restore that was killed to the next method, `abandon_restore` for instance.
    :raises ConfigError: if `base_dir` lies in the workspace.
    :raises SnapshotError: if the store cannot be used, or a restore that was killed cannot be ended now. If its end
        would remove what is newer, the methods that work in the workspace raise `UnfinishedRestoreError` until
        `finish_restore` or `abandon_restore` was called.

    All methods may be called from several threads and processes; they take turns. Those with an `a` in front
    are their asynchronous twins (asyncio or trio): the work is done in a thread, and when they are cancelled
    it is stopped, or, if it cannot be stopped any more, waited for.
    """

    def __init__(
        self,
        workspace: str | os.PathLike[str],
        base_dir: str | os.PathLike[str] | None = None,
        *,
        exclude: Paths | Callable[[], Paths] = (),
        ignore: Iterable[str] = (),
        exclude_if: Callable[[str], bool] | None = None,
        lock_timeout_s: float = 600.0,
        durable: bool = True,
        settle: bool = True,
    ) -> None:
        self.workspace_dir = Path(workspace).expanduser().resolve()
        about = {"workspace": os.fsencode(self.workspace_dir).hex()}
        self.store = PackStore(store_folder(self.workspace_dir, base_dir), about=about, durable=durable)
        self._rules = Rules(
            exclude=() if callable(exclude) else exclude, ignore=ignore, exclude_if=exclude_if
        )
        self._exclude_now = exclude if callable(exclude) else None
        self._lock_timeout_s = lock_timeout_s
        self._cache: tuple[object, StatCache] | None = None
        self._said: list[str] = []
        if settle and RestoreJournal.left(self.store):
            try:
                self._said = self.settle()
            except UnfinishedRestoreError as exc:  # whoever wants to choose needs this object
                log.warning("%s", exc)

    # --- the methods -------------------------------------------------------------------------------

    def snapshot(
        self, label: str | None = None, *, turn: int | None = None, attachment: bytes | None = None
    ) -> Snapshot:
        """Keep the workspace as it is now.

        :param label: a name to restore it by; the newest snapshot wins if several have it.
        :param turn: the turn it belongs to; by default one more than the highest so far.
        :param attachment: data of the caller's that is kept with the snapshot; see `attachment`.
        :raises ConfigError: for a label that is empty, longer than 200 characters, has control characters or looks
            like an id.
        :raises SnapshotError: if something cannot be read, or the disk is full, say. No half snapshot is left.
        """
        return self._snapshot(label, turn, attachment, go_on)

    def restore(self, wanted: Selector | Snapshot) -> Snapshot:
        """Make the workspace what it was, and return the snapshot. Only what differs is written.

        What a snapshot leaves out (`SnapshotStats.left_out`) stays as it is. Files come back as new files: a
        hard link from outside keeps the newer content.

        :raises UnknownSnapshotError: if there is none of that id, label or turn.
        :raises CorruptSnapshotError: if the store is damaged; the workspace stays as it is.
        :raises SnapshotError: if the disk is full, say; the workspace stays as it is.
        """
        return self._restore(wanted, go_on)

    def list_snapshots(self) -> list[Snapshot]:
        """All snapshots, the oldest first."""
        return self.store.snapshots()

    def find(self, wanted: Selector | Snapshot) -> Snapshot:
        """Return the snapshot with this id, label or turn, in this order; the newest if there are several.

        :raises UnknownSnapshotError: if there is none.
        """
        if isinstance(wanted, Snapshot):
            wanted = wanted.id
        known = self.list_snapshots()
        found = pick(wanted, known)
        if found is not None:
            return found
        if isinstance(wanted, str) and wanted in self.store.ids():
            return self.store.describe(wanted)  # it is damaged: say how
        raise UnknownSnapshotError(
            wanted, [name for one in known for name in (one.id, one.label) if name is not None]
        )

    def delete_snapshot(self, wanted: Selector | Snapshot, *, collect: bool = True) -> Snapshot | None:
        """Remove a snapshot, and with `collect` the contents that no other one needs.

        Returns what was removed; None for one that is damaged.

        :raises UnknownSnapshotError: if there is none of that id, label or turn.
        """
        return self._delete(wanted, collect, go_on)

    def collect_garbage(self) -> int:
        """Remove contents that no snapshot needs; return how many bytes that freed."""
        return self._collect(go_on)

    def diff(self, a: Selector | Snapshot, b: Selector | Snapshot | None = None) -> Diff:
        """Say what is different in `b` (None: the workspace as it is) compared with `a`."""
        return self._diff(a, b, go_on)

    def copy_to(self, wanted: Selector | Snapshot, folder: str | os.PathLike[str]) -> Path:
        """Put a snapshot into another folder, which must be empty or not there; return it resolved.

        Links of git and symbolic links that name a place in the workspace by its absolute path name that in the copy;
        what git is led to outside is logged as a warning. The folder may have snapshots of its own.

        :raises SnapshotError: if it is not empty.
        """
        return self._copy_to(wanted, folder, go_on)

    def has_attachment(self, id: str) -> bool:
        """Tell whether the snapshot with this id carries data of the caller's."""
        return self.store.has_attachment(id)

    def attachment(self, wanted: Selector | Snapshot) -> bytes | None:
        """The data that was kept with a snapshot, or None.

        :raises UnknownSnapshotError: if there is none of that id, label or turn.
        :raises CorruptSnapshotError: if the data is damaged.
        """
        return self.store.attachment(self.find(wanted).id)

    def verify(self) -> list[str]:
        """Read everything in the store and return what is damaged, as sentences; empty if all is well."""
        with self._locked("check the snapshots", go_on, recover=False):
            return find_damage(self.store)

    # --- their twins -------------------------------------------------------------------------------

    async def asnapshot(
        self, label: str | None = None, *, turn: int | None = None, attachment: bytes | None = None
    ) -> Snapshot:
        """`snapshot`, awaited."""
        return await run_stoppable(lambda poll: self._snapshot(label, turn, attachment, poll))

    async def arestore(self, wanted: Selector | Snapshot) -> Snapshot:
        """`restore`, awaited. Cancelled, it leaves the workspace as it was or as it shall be."""
        return await run_stoppable(lambda poll: self._restore(wanted, poll))

    async def alist_snapshots(self) -> list[Snapshot]:
        """`list_snapshots`, awaited."""
        return await run_stoppable(lambda poll: self.list_snapshots())

    async def adelete_snapshot(self, wanted: Selector | Snapshot, *, collect: bool = True) -> Snapshot | None:
        """`delete_snapshot`, awaited."""
        return await run_stoppable(lambda poll: self._delete(wanted, collect, poll))

    async def acollect_garbage(self) -> int:
        """`collect_garbage`, awaited."""
        return await run_stoppable(self._collect)

    async def adiff(self, a: Selector | Snapshot, b: Selector | Snapshot | None = None) -> Diff:
        """`diff`, awaited."""
        return await run_stoppable(lambda poll: self._diff(a, b, poll))

    async def acopy_to(self, wanted: Selector | Snapshot, folder: str | os.PathLike[str]) -> Path:
        """`copy_to`, awaited."""
        return await run_stoppable(lambda poll: self._copy_to(wanted, folder, poll))

    # --- the work ----------------------------------------------------------------------------------

    def _snapshot(
        self, label: str | None, turn: int | None, attachment: bytes | None, poll: Poll
    ) -> Snapshot:
        check_label(label)
        check_turn(turn)
        with self._locked("take a snapshot", poll):
            return self._keep(label, turn, attachment, poll)

    def _keep(self, label: str | None, turn: int | None, attachment: bytes | None, poll: Poll) -> Snapshot:
        begin = time.monotonic()
        with self._root() as root_fd:
            writer = PackWriter(self.store.packs, self.store.temporary)
            try:
                scan = self._scan(root_fd, poll, writer)
                scan.require_all("take a snapshot")
                writer.finish()
            finally:
                writer.abandon()
            encoded = scan.tree.encode()
            last_turn, last = self.store.counted()
            turn = last_turn + 1 if turn is None else turn
            snapshot_id = self._free_id(turn)
            stats = _stats(scan, writer.bytes, time.monotonic() - begin)
            path = self.store.path(snapshot_id)
            snapshot = Snapshot(snapshot_id, label, turn, path, time.time(), stats, last + 1)
            self.store.add(snapshot, encoded, attachment)
            self._remember(scan, encoded)
            return snapshot

    def _restore(self, wanted: Selector | Snapshot, poll: Poll) -> Snapshot:
        with self._locked("restore a snapshot", poll):
            snapshot = self.find(wanted)
            new = not self.workspace_dir.exists()
            with self._root(make=True) as root_fd, marked(self.workspace_dir, self.store):
                scan = self._restorer(root_fd, snapshot.id, poll, new=new).run()
                self._remember(scan)
            return snapshot

    def _delete(self, wanted: Selector | Snapshot, collect: bool, poll: Poll) -> Snapshot | None:
        with self._locked("delete a snapshot", poll):
            found: Snapshot | None
            try:
                found = self.find(wanted)
                snapshot_id = found.id
            except CorruptSnapshotError:
                found, snapshot_id = None, str(wanted)
            self.store.discard(snapshot_id)
            if collect:
                self.store.collect(poll=poll)
            return found

    def _collect(self, poll: Poll) -> int:
        with self._locked("collect garbage", poll):
            return self.store.collect(poll=poll)

    def _diff(self, a: Selector | Snapshot, b: Selector | Snapshot | None, poll: Poll) -> Diff:
        with self._locked("compare snapshots", poll):
            before = self.store.tree(self.find(a).id)
            if b is not None:
                return diff_trees(before, self.store.tree(self.find(b).id))
            with self._root() as root_fd:
                scan = self._scan(root_fd, poll)
                scan.require_all("compare snapshots")
                self._remember(scan)
                return diff_trees(before, scan.tree)

    def _copy_to(self, wanted: Selector | Snapshot, folder: str | os.PathLike[str], poll: Poll) -> Path:
        path = Path(folder).expanduser().resolve()
        with self._locked("copy a snapshot", poll, recover=False):
            snapshot = self.find(wanted)
            path.mkdir(parents=True, exist_ok=True)
            with _opened(path) as root_fd:
                if os.listdir(root_fd):
                    raise SnapshotError(f"the folder {str(path)!r} is not empty; give a new one")
                restorer = self._restorer(root_fd, snapshot.id, poll)
                restorer.journaled = False
                restorer.cache = StatCache()
                restorer.rules = Rules()
                restorer.run()
                self._relink(root_fd, snapshot, path)
        return path

    def _relink(self, root_fd: int, snapshot: Snapshot, copy: Path) -> None:
        tree, root = self.store.tree(snapshot.id), os.fstat(root_fd)
        tree.belong_to(root.st_uid, root.st_gid)
        outside = relink(root_fd, tree, os.fsencode(self.workspace_dir), os.fsencode(copy))
        if outside:
            log.warning(
                "%s: git leads from here to outside of the copy (%s): what is committed there lands in the same "
                "repository as what is committed in %s",
                copy,
                ", ".join(map(repr, outside[:_SHOWN])),
                self.workspace_dir,
            )

    def _scan(self, root_fd: int, poll: Poll, writer: PackWriter | None = None) -> Scan:
        scanner = Scanner(
            root_fd,
            rules=self._rules_now(),
            reader=ContentReader(keep=writer.add if writer is not None else None, poll=poll),
            cache=self._stat_cache(),
            stored=self.store.packs.lookup if writer is not None else None,
            poll=poll,
        )
        return scanner.scan()

    def _restorer(self, root_fd: int, snapshot_id: str, poll: Poll, *, new: bool = False) -> Restorer:
        return Restorer(
            store=self.store,
            root_fd=root_fd,
            snapshot_id=snapshot_id,
            rules=self._rules_now(),
            cache=self._stat_cache(),
            poll=poll,
            new=new,
        )

    def _rules_now(self) -> Rules:
        return self._rules if self._exclude_now is None else self._rules.excluding(self._exclude_now())

    def _free_id(self, turn: int) -> str:
        taken = set(self.store.ids())
        base = snapshot_id = f"turn_{turn:04d}"
        number = 1
        while snapshot_id in taken:
            number += 1
            snapshot_id = f"{base}_{number}"
        return snapshot_id

    # --- the stat cache ----------------------------------------------------------------------------

    def _stat_cache(self) -> StatCache:
        """What is known about inodes; read again if another process has written it."""
        stamp = self._cache_stamp()
        if self._cache is None or self._cache[0] != stamp:
            self._cache = (stamp, StatCache(self.store.read_cache()))
        return self._cache[1]

    def _remember(self, scan: Scan, encoded: bytes | None = None) -> None:
        """Learn from what was read; on disk too, if that saves the next process more than it costs now."""
        if not scan.read:
            return
        cache = self._stat_cache()
        cache.learn(scan.read)
        if encoded is not None or len(scan.read) > _MANY:
            self.store.write_cache(encoded or scan.tree.encode())
            self._cache = (self._cache_stamp(), cache)

    def _cache_stamp(self) -> object:
        try:
            found = os.stat(self.store.folder / "cache")
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    # --- the surroundings --------------------------------------------------------------------------

    @contextlib.contextmanager
    def _locked(self, task: str, poll: Poll, *, recover: bool = True) -> Iterator[None]:
        """Hold the store, with a restore that was killed ended first; system errors become ours."""
        try:
            with self.store.locked(poll=poll, timeout_s=self._lock_timeout_s):
                journal = RestoreJournal.read(self.store) if recover else None
                if journal is not None:
                    self._recover(journal)
                yield
        except PackWriteError as exc:
            raise _system_error(task, exc.reason) from exc
        except OSError as exc:
            if isinstance(exc, SnapshotError):
                raise
            raise _system_error(task, exc) from exc

    @contextlib.contextmanager
    def _root(self, *, make: bool = False) -> Iterator[int]:
        if make and not self.workspace_dir.exists():
            self.workspace_dir.mkdir(parents=True)
        with _opened(self.workspace_dir) as fd:
            yield fd


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[int]:
    try:
        fd = os.open(folder, DIRECTORY)
    except OSError as exc:
        raise SnapshotError(
            f"the workspace {str(folder)!r} cannot be opened: {exc.strerror}", errno=exc.errno
        ) from exc
    try:
        yield fd
    finally:
        os.close(fd)


def _stats(scan: Scan, new_bytes: int, seconds: float) -> SnapshotStats:
    files = symlinks = size = 0
    for folder in scan.tree.folders:
        targets = [file for file in folder.files if file.target is not None]
        symlinks += len(targets)
        files += len(folder.files) - len(targets)
        size += sum([file.size for file in folder.files]) - sum([file.size for file in targets])
    left = [
        LeftOut(os.fsdecode(path or b"."), reason)
        for index, name, reason in scan.left_out[:_MAX_REPORTED]
        if (path := scan.tree.path(index, name)) is not None
    ]
    return SnapshotStats(
        files=files,
        folders=len(scan.tree.folders) - 1,
        symlinks=symlinks,
        bytes=size,
        new_bytes=new_bytes,
        read_files=len(scan.read),
        left_out=tuple(left),
        left_out_count=len(scan.left_out),
        seconds=seconds,
    )


def _system_error(task: str, exc: OSError) -> SnapshotError:
    where = f" ({os.fsdecode(exc.filename)!r})" if isinstance(exc.filename, str | bytes) else ""
    if exc.errno in _FULL:
        return SnapshotError(
            f"could not {task}: {exc.strerror}{where}; nothing was lost: make room (deleting snapshots helps) "
            "and try again",
            errno=exc.errno,
        )
    return SnapshotError(f"could not {task}: {exc.strerror or exc}{where}", errno=exc.errno)

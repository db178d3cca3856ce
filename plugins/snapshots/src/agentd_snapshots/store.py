"""The store of one workspace's snapshots on disk: manifests, packs, the stat cache, the lock.

    STORE/            0700, outside the workspace
      about.json      format and workspace, for people
      lock            held by whoever works in the store (flock)
      counter         the highest turn and the highest sequence that a snapshot has ever had
      snapshots/ID    one manifest each: header, description, tree
      attached/ID     what was handed over with a snapshot: a session's checkpoint, say
      packs/NAME.pack contents (`agentd_snapshots.packs`)
      cache           what the last scan learnt about inodes
      journal         there while a restore is at work (`agentd_snapshots.journal`)
      tmp/            what is not finished; nobody's as soon as the lock is free

Everything is written under a name in `tmp/`, made durable, and renamed: a process that is killed leaves nothing
half done.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from agentd.errors import CorruptSnapshotError, SnapshotError
from agentd.statedir import make_private

from agentd_snapshots.content import Poll
from agentd_snapshots.digest import digest_of
from agentd_snapshots.packs import PackSet, PackWriter, sync_folder, write_all
from agentd_snapshots.tree import DIGEST, FileTree
from agentd_snapshots.values import LeftOut, Snapshot, SnapshotStats
from agentd_snapshots.walker import remove_at

__all__ = ["PackStore"]

FORMAT = 1
MAGIC = b"agentdS1"
_HEADER = struct.Struct(f"<8s{DIGEST}s{DIGEST}sI")
_SPARSE_PACK = 0.5


class PackStore:
    """A folder with snapshots. `Snapshots` puts them in and takes them out.

    :param folder: made with mode 0700 if it is not there.
    :param about: written into a new store for people who find it.
    :param durable: False: nothing waits for the disk, and a crash of the machine (not of a process) may damage it.
    :raises SnapshotError: if the folder cannot be used, or was written by a newer agentd.
    """

    def __init__(self, folder: Path, *, about: dict[str, str] | None = None, durable: bool = True) -> None:
        self.folder = folder
        self._durable = durable
        self._manifests = folder / "snapshots"
        self._attached = folder / "attached"
        self.temporary = folder / "tmp"
        try:
            for part in (folder, self._manifests, self._attached, folder / "packs", self.temporary):
                make_private(part)
            if folder.stat().st_mode & 0o077:
                folder.chmod(0o700)
            self._check_format(about or {})
        except OSError as exc:
            if isinstance(exc, SnapshotError):
                raise
            raise SnapshotError(
                f"the snapshot store {str(folder)!r} cannot be used: {exc.strerror}; give another base_dir",
                errno=exc.errno,
            ) from exc
        self.packs = PackSet(folder / "packs", durable=durable)

    def _check_format(self, about: dict[str, str]) -> None:
        path = self.folder / "about.json"
        try:
            found = json.loads(path.read_bytes())["format"]
        except FileNotFoundError:
            self.write("about.json", json.dumps({"format": FORMAT, **about}).encode() + b"\n")
            return
        except (ValueError, KeyError, TypeError):
            found = "?"
        if found != FORMAT:
            raise SnapshotError(
                f"the snapshot store {str(self.folder)!r} has format {found}, this agentd reads format {FORMAT}; "
                "update agentd, or give another base_dir"
            )

    # --- one at a time -----------------------------------------------------------------------------

    @contextlib.contextmanager
    def locked(self, *, poll: Poll | None = None, timeout_s: float = 600.0) -> Iterator[None]:
        """Hold the store alone, against threads and other processes. `poll` is called while waiting.

        :raises SnapshotError: if another one has held it for `timeout_s` seconds.
        """
        import fcntl

        fd = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            pause, end = 0.001, time.monotonic() + timeout_s
            while True:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > end:
                        raise SnapshotError(
                            f"another process has held {str(self.folder / 'lock')!r} for {timeout_s:g} s; "
                            "wait for its snapshot or restore, or end it"
                        ) from None
                    if poll is not None:
                        poll()
                    time.sleep(pause)
                    pause = min(pause * 2, 0.05)
            self._clear_temporary()
            self.packs.sync()
            yield
        finally:
            fcntl.flock(fd, fcntl.LOCK_UN)  # to close it is not enough: a child forked meanwhile has it, too
            os.close(fd)

    def _clear_temporary(self) -> None:
        left = os.listdir(self.temporary)
        if left:
            fd = os.open(self.temporary, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                for name in left:
                    remove_at(fd, os.fsencode(name))
            finally:
                os.close(fd)

    # --- small files ---------------------------------------------------------------------------------

    def write(self, name: str, data: bytes, *, durable: bool = True) -> None:
        """Replace a file of the store at once."""
        durable = durable and self._durable
        temporary = self.temporary / f"{os.getpid()}-{time.monotonic_ns()}"
        path = self.folder / name
        try:
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                write_all(fd, data)
                if durable:
                    os.fsync(fd)
            finally:
                os.close(fd)
            os.rename(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        if durable:
            sync_folder(path.parent)

    def read(self, name: str) -> bytes | None:
        """The content of a file of the store."""
        try:
            return (self.folder / name).read_bytes()
        except FileNotFoundError:
            return None

    def remove(self, name: str) -> None:
        """Remove a file of the store."""
        (self.folder / name).unlink(missing_ok=True)

    def read_cache(self) -> FileTree | None:
        """The tree of the last scan; None if there is none, or it is damaged (nothing is lost then)."""
        data = self.read("cache")
        if data is None or digest_of(data[DIGEST:]) != data[:DIGEST]:
            return None
        try:
            return FileTree.decode(data[DIGEST:])
        except (ValueError, msgspec.MsgspecError):
            return None

    def write_cache(self, encoded: bytes) -> None:
        """Keep an encoded tree for the next scan."""
        self.write("cache", digest_of(encoded) + encoded, durable=False)

    # --- manifests -----------------------------------------------------------------------------------

    def counted(self) -> tuple[int, int]:
        """The highest turn and the highest sequence that a snapshot has ever had."""
        try:
            turn, sequence = map(int, (self.read("counter") or b"").split())
        except ValueError:  # damaged, or from before snapshots had a sequence
            known = self.snapshots()
            turn = max((snapshot.turn for snapshot in known), default=0)
            sequence = max((snapshot.sequence for snapshot in known), default=0)
        return turn, sequence

    def add(self, snapshot: Snapshot, encoded: bytes, attachment: bytes | None = None) -> None:
        """Publish a snapshot whose contents are in the packs. `snapshot.path` is ignored."""
        if attachment is not None:
            self.write(f"attached/{snapshot.id}", digest_of(attachment) + attachment)
        else:
            self._detach(snapshot.id)  # one that a killed process has left
        turn, sequence = self.counted()
        self.write("counter", b"%d %d\n" % (max(turn, snapshot.turn), max(sequence, snapshot.sequence)))
        stats = _stats_as_dict(snapshot.stats)
        meta = msgspec.msgpack.encode(
            _Meta(snapshot.label, snapshot.turn, snapshot.timestamp, stats, snapshot.sequence)
        )
        header = _HEADER.pack(MAGIC, digest_of(meta), digest_of(encoded), len(meta))
        self.write(f"snapshots/{snapshot.id}", header + meta + encoded)

    def path(self, snapshot_id: str) -> Path:
        """Where the manifest of an id lies."""
        return self._manifests / snapshot_id

    def ids(self) -> list[str]:
        """The ids of all manifests, damaged ones too."""
        return os.listdir(self._manifests)

    def snapshots(self) -> list[Snapshot]:
        """All snapshots, the oldest first. Damaged manifests are left out (`verify` names them)."""
        found = []
        for name in self.ids():
            with contextlib.suppress(CorruptSnapshotError, FileNotFoundError):
                found.append(self.describe(name))
        return sorted(found, key=lambda one: (one.sequence, one.timestamp, one.turn, one.id))

    def describe(self, snapshot_id: str) -> Snapshot:
        """Read what a manifest says, without its tree.

        :raises CorruptSnapshotError: if it is damaged.
        """
        path = self.path(snapshot_id)
        with open(path, "rb") as file:
            meta = _read_meta(path, file.read(_HEADER.size), file.read)[0]
        return Snapshot(
            id=snapshot_id,
            label=meta.label,
            turn=meta.turn,
            path=path,
            timestamp=meta.timestamp,
            stats=_stats_of(path, meta.stats),
            sequence=meta.sequence,
        )

    def tree(self, snapshot_id: str) -> FileTree:
        """Read a snapshot's tree.

        :raises CorruptSnapshotError: if the manifest is damaged.
        """
        data = self.encoded_tree(snapshot_id)
        try:
            return FileTree.decode(data)
        except (ValueError, msgspec.MsgspecError) as exc:
            path = self.path(snapshot_id)
            raise CorruptSnapshotError(f"the manifest {str(path)!r} is damaged: {exc}") from exc

    def encoded_tree(self, snapshot_id: str) -> bytes:
        """Read a snapshot's tree, as `FileTree.encode` has made it.

        :raises CorruptSnapshotError: if the manifest is damaged.
        """
        path = self.path(snapshot_id)
        with open(path, "rb") as file:
            _, digest = _read_meta(path, file.read(_HEADER.size), file.read)
            data = file.read()
        if digest_of(data) != digest:
            raise CorruptSnapshotError(f"the manifest {str(path)!r} is damaged: its tree has another hash")
        return data

    def attachment(self, snapshot_id: str) -> bytes | None:
        """What was handed over with a snapshot, or None.

        :raises CorruptSnapshotError: if it is damaged.
        """
        data = self.read(f"attached/{snapshot_id}")
        if data is not None and digest_of(data[DIGEST:]) != data[:DIGEST]:
            path = str(self._attached / snapshot_id)
            raise CorruptSnapshotError(f"the attachment {path!r} is damaged: it has another hash")
        return None if data is None else data[DIGEST:]

    def has_attachment(self, snapshot_id: str) -> bool:
        """Whether something was handed over with a snapshot."""
        return (self._attached / snapshot_id).exists()

    def _detach(self, snapshot_id: str) -> None:
        if self.has_attachment(snapshot_id):
            self.remove(f"attached/{snapshot_id}")

    def discard(self, snapshot_id: str) -> None:
        """Remove a manifest and its attachment; its contents stay until `collect`."""
        self.path(snapshot_id).unlink(missing_ok=True)
        self._detach(snapshot_id)
        if self._durable:
            sync_folder(self._manifests)

    # --- garbage -------------------------------------------------------------------------------------

    def collect(self, *, poll: Poll | None = None) -> int:
        """Remove what no snapshot needs, and return how many bytes that freed.

        Packs without a needed chunk go; of packs that are needed for less than half, what is needed is moved
        into a new pack first. Nothing is removed as long as a manifest is damaged.
        """
        needed = self._needed(poll)
        if needed is None:
            return 0
        before = self._pack_bytes()
        useless: list[str] = []
        writer = PackWriter(self.packs, self.temporary)
        try:
            for name in self.packs.names():
                if poll is not None:
                    poll()
                self._sort_out(name, needed, writer, useless)
            made = writer.finish()
        finally:
            writer.abandon()
        # killed after it had published the same pack, an earlier run may have left it without readers
        useless = [name for name in useless if name != made]
        for name in useless:
            (self.packs.folder / name).unlink(missing_ok=True)
        if useless:
            if self._durable:
                sync_folder(self.packs.folder)
            self.packs.forget()
            self.packs.sync()
        return before - self._pack_bytes()

    def _needed(self, poll: Poll | None) -> set[bytes] | None:
        needed: set[bytes] = set()
        for snapshot_id in self.ids():
            if poll is not None:
                poll()
            try:
                tree = self.tree(snapshot_id)
            except (CorruptSnapshotError, FileNotFoundError):
                return None
            needed.update(tree.digests())
        return needed

    def _sort_out(self, name: str, needed: set[bytes], writer: PackWriter, useless: list[str]) -> None:
        """Decide about one pack, and save what is needed of it if it goes."""
        try:
            table = self.packs.table(name)
        except CorruptSnapshotError:
            return  # it is kept for whoever wants to look into it
        # of a chunk that several packs have, the copy that reads go to counts
        live = [row for row in table if row[0] in needed and self.packs.holds(name, row[0])]
        size = sum(length for _, _, length in table)
        kept = sum(length for _, _, length in live)
        if kept > size * _SPARSE_PACK:
            return
        try:
            for digest, _, _ in live:
                writer.add(digest, self.packs.read(digest), again=True)
        except CorruptSnapshotError:
            return
        useless.append(name)

    def _pack_bytes(self) -> int:
        with os.scandir(self.packs.folder) as entries:
            return sum(entry.stat().st_size for entry in entries)


class _Meta(msgspec.Struct):
    """The description in a manifest."""

    label: str | None
    turn: int
    timestamp: float
    stats: dict[str, Any]
    sequence: int = 0  # in those that were written before there was one


def _read_meta(path: Path, header: bytes, read: Any) -> tuple[_Meta, bytes]:
    """The description in a manifest, and the digest of its tree."""
    try:
        magic, meta_digest, tree_digest, size = _HEADER.unpack(header)
        meta = read(size)
        if magic != MAGIC or digest_of(meta) != meta_digest:
            raise ValueError("its description has another hash")
        return msgspec.msgpack.decode(meta, type=_Meta), tree_digest
    except (ValueError, struct.error, msgspec.MsgspecError) as exc:
        raise CorruptSnapshotError(f"the manifest {str(path)!r} is damaged: {exc}") from exc


def _stats_of(path: Path, data: dict[str, Any]) -> SnapshotStats:
    try:
        left_out = tuple(LeftOut(os.fsdecode(where), why) for where, why in data.get("left_out", ()))
        return SnapshotStats(**{**data, "left_out": left_out})
    except (TypeError, ValueError) as exc:
        raise CorruptSnapshotError(f"the manifest {str(path)!r} is damaged: {exc}") from exc


def _stats_as_dict(stats: SnapshotStats) -> dict[str, Any]:
    import attrs

    return {
        **attrs.asdict(stats, recurse=False),
        "left_out": [(os.fsencode(left.path), left.reason) for left in stats.left_out],
    }

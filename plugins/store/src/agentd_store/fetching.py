"""What goes from a store into the local cache: lists of files, and packs; and the parts that packs are cut into."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agentd.errors import CorruptSnapshotError
from agentd_snapshots.packs import pack_name
from agentd_snapshots.values import Snapshot

from agentd_store.checking import check_tree
from agentd_store.delta import MAX_DELTA, apply_delta
from agentd_store.errors import StoreError
from agentd_store.objects import ObjectSet
from agentd_store.records import CheckpointRecord, PackRecord

if TYPE_CHECKING:
    from agentd_snapshots.store import PackStore

    from agentd_store.seal import ObjectSeal

__all__ = ["CacheFiller", "parts_of"]

PART: Final = 16 << 20  # bytes


def parts_of(path: Path, seal: ObjectSeal) -> list[tuple[str, Callable[[], bytes]]]:
    """Return the parts of a pack: their names, and what reads them."""
    size = path.stat().st_size
    parts = list[tuple[str, Callable[[], bytes]]]()
    for start in range(0, size, PART):
        read = partial(_read_part, path, start)
        parts.append((seal.name_of(read()), read))
    return parts


def _read_part(path: Path, start: int) -> bytes:
    with open(path, "rb") as file:
        file.seek(start)
        return file.read(PART)


class CacheFiller:
    """Brings checkpoints of a store into the local store of a workspace."""

    def __init__(self, local: PackStore, objects: ObjectSet, seal: ObjectSeal) -> None:
        self._local = local
        self._objects = objects
        self._seal = seal

    def tree_here(self, record: CheckpointRecord) -> bytes | None:
        """Return the list of files of a checkpoint if the cache has it, as bytes."""
        if record.id not in self._local.ids():
            return None
        try:
            encoded = self._local.encoded_tree(record.id)
        except CorruptSnapshotError:
            return None
        return encoded if self._seal.name_of(encoded) == record.tree_name else None

    def fetch_manifest(self, record: CheckpointRecord) -> None:
        """Have the checkpoint in the cache, without the contents of its files.

        :raises StoreError: if something of it is lost or damaged.
        """
        if self.tree_here(record) is not None:
            return
        first, *changes = record.tree
        pieces = self._objects.get_all(changes, most=MAX_DELTA)
        encoded = self._objects.get(first)
        for change in changes:
            encoded = apply_delta(encoded, pieces[change])
        if self._seal.name_of(encoded) != record.tree_name:
            raise StoreError(f"the checkpoint {record.id!r} is damaged: its list of files has another hash")
        check_tree(record.id, encoded)
        with self._local.locked(), _told("keep", record.id):
            kept = Snapshot(
                record.id, record.label, record.turn, self._local.path(record.id), record.timestamp
            )
            self._local.add(kept, encoded)

    def fetch(self, record: CheckpointRecord, packs: Iterable[PackRecord]) -> None:
        """Have the checkpoint in the cache as a whole.

        :raises StoreError: if something of it is lost or damaged.
        """
        self.fetch_manifest(record)
        with self._local.locked():
            present = set(self._local.packs.names())
            for pack in packs:
                if pack.name not in present:
                    with _told("fetch", record.id):
                        self._fetch_pack(pack)

    def _fetch_pack(self, pack: PackRecord) -> None:
        temporary = self._local.temporary / "fetched"
        with open(temporary, "wb", opener=_private) as file:
            for name in pack.parts:
                file.write(self._objects.get(name, most=PART))
            file.flush()
            if self._local.packs.durable:
                os.fsync(file.fileno())
        try:
            name = pack_name(temporary)
        except CorruptSnapshotError as error:
            raise StoreError(f"the pack {pack.name!r} is damaged: {error}") from None
        if name != pack.name:
            raise StoreError(f"the pack {pack.name!r} is damaged: by its content, it is {name!r}")
        self._local.packs.publish(temporary, pack.name)


@contextlib.contextmanager
def _told(what: str, id: str) -> Iterator[None]:
    """Turn what the cache's disk refuses into a `StoreError` that says so."""
    try:
        yield
    except OSError as error:
        if isinstance(error, StoreError | CorruptSnapshotError):
            raise
        raise StoreError(
            f"could not {what} the checkpoint {id!r} in the local cache: {error.strerror or error}; "
            "make room there, or set another base_dir",
            errno=error.errno,
        ) from error


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)

"""Checking a store: every manifest, every chunk."""

from __future__ import annotations

from agentd.errors import CorruptSnapshotError

from agentd_snapshots.digest import digest_of
from agentd_snapshots.store import PackStore
from agentd_snapshots.tree import DIGEST

__all__ = ["find_damage"]


def find_damage(store: PackStore) -> list[str]:
    """Read a locked store and return a sentence for everything that is damaged or missing."""
    problems: list[str] = []
    good: set[bytes] = set()
    for name in store.packs.names():
        try:
            _check_pack(store, name, good, problems)
        except CorruptSnapshotError as exc:
            problems.append(str(exc))
    for snapshot_id in sorted(store.ids()):
        try:
            store.describe(snapshot_id)
            tree = store.tree(snapshot_id)
            store.attachment(snapshot_id)
        except CorruptSnapshotError as exc:
            problems.append(str(exc))
            continue
        lost = sum(
            1
            for file in tree.files()
            if any(file.digests[at : at + DIGEST] not in good for at in range(0, len(file.digests), DIGEST))
        )
        if lost:
            problems.append(f"snapshot {snapshot_id!r} has lost the content of {lost} files")
    return problems


def _check_pack(store: PackStore, name: str, good: set[bytes], problems: list[str]) -> None:
    path = store.packs.folder / name
    table = store.packs.table(name)
    with open(path, "rb") as file:
        for digest, offset, length in table:
            file.seek(offset)
            if digest_of(file.read(length)) == digest:
                good.add(digest)
            else:
                problems.append(
                    f"the pack {str(path)!r} is damaged between bytes {offset} and {offset + length}"
                )

"""The contents of files in a snapshot, for whoever shows what has changed."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from agentd_snapshots.tree import CHUNK, File, FileTree, chunks_of

if TYPE_CHECKING:
    from agentd.selectors import Selector

    from agentd_snapshots.snapshots import Snapshots
    from agentd_snapshots.values import Snapshot

__all__ = ["read_files"]


def read_files(
    snapshots: Snapshots, wanted: Selector | Snapshot, paths: Iterable[str], *, max_bytes: int
) -> dict[str, bytes]:
    """Return the contents of regular files in a snapshot, by path; what is no such file, or larger than `max_bytes`, is
    left out.

    :raises UnknownSnapshotError: if there is no such snapshot.
    :raises CorruptSnapshotError: if a content is missing or damaged.
    """
    with snapshots.store.locked():
        tree = snapshots.store.tree(snapshots.find(wanted).id)
        found = {}
        for path in paths:
            file = _find(tree, os.fsencode(path))
            if file is not None and file.target is None and file.known and file.size <= max_bytes:
                found[path] = _content(snapshots, file)
        return found


def _find(tree: FileTree, path: bytes) -> File | None:
    *folders, name = path.split(b"/")
    at = 0
    for folder in folders:
        below = tree.children[at].get(folder)
        if below is None:
            return None
        at = below
    return next((file for file in tree.folders[at].files if file.name == name), None)


def _content(snapshots: Snapshots, file: File) -> bytes:
    data = bytearray(file.size)  # chunks of zeros are not stored
    for number, digest in chunks_of(file):
        chunk = snapshots.store.packs.read(digest)
        data[number * CHUNK : number * CHUNK + len(chunk)] = chunk
    return bytes(data)

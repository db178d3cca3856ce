"""The journal of a restore: a file in the store that says how far it came, so that the next one can end it."""

from __future__ import annotations

import json
from typing import Literal

import attrs
import msgspec
from agentd.errors import SnapshotError

from agentd_snapshots.rules import STAGING_PREFIX
from agentd_snapshots.store import PackStore

__all__ = ["Phase", "RestoreJournal"]

Phase = Literal["staging", "applying"]
_NAME = "journal"


@attrs.frozen
class RestoreJournal:
    """What a restore is doing.

    In phase `staging` the workspace has got nothing but the staging folder: it is taken back. In phase
    `applying` it may be a mix: the restore is done again. `root_mtime_ns` is the time that the workspace's
    folder itself shall have.

    `drops` are the paths that go, in the order in which they are moved into the staging folder (the first becomes
    `o1` there). `old` has every file at and below them as it was found, (inode, time, size), and three zeros for
    what is no file: whatever else goes when the restore is done again is somebody's newer work. `excluded` was no
    part of it.
    """

    phase: Phase
    snapshot_id: str
    staging: str
    root_mtime_ns: int
    drops: list[str] = attrs.field(factory=list)
    old: dict[str, list[int]] = attrs.field(factory=dict)
    excluded: list[str] = attrs.field(factory=list)

    def __attrs_post_init__(self) -> None:
        """:raises ValueError: if a damaged file names something else."""
        if not self.staging.startswith(STAGING_PREFIX.decode()) or "/" in self.staging:
            raise ValueError("it names no staging folder")

    def write(self, store: PackStore) -> None:
        """Make it the store's journal, durably."""
        store.write(_NAME, json.dumps(attrs.asdict(self, recurse=False)).encode() + b"\n")

    @staticmethod
    def read(store: PackStore) -> RestoreJournal | None:
        """The journal of a restore that did not end, if there is one."""
        data = store.read(_NAME)
        if data is None:
            return None
        try:
            return msgspec.convert(json.loads(data), RestoreJournal)
        except (ValueError, RecursionError, msgspec.MsgspecError) as exc:
            raise SnapshotError(
                f"the journal {str(store.folder / _NAME)!r} is damaged ({exc}): the workspace may be half restored; "
                "remove that file and restore again"
            ) from exc

    @staticmethod
    def left(store: PackStore) -> bool:
        """Whether there is one, damaged or not."""
        return (store.folder / _NAME).exists()

    @staticmethod
    def clear(store: PackStore) -> None:
        """The restore is over."""
        store.remove(_NAME)

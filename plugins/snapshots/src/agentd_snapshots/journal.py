"""The journal of a restore: a file in the store that says how far it came, so that the next one can end it."""

from __future__ import annotations

import contextlib
import json
import os
from typing import Literal

import attrs
import msgspec
from agentd.errors import SnapshotError

from agentd_snapshots.rules import REPLACED_PREFIX, STAGING_PREFIX
from agentd_snapshots.store import PackStore

__all__ = ["Phase", "RestoreJournal"]

Phase = Literal["staging", "applying", "abandoning"]
_NAME = "journal"
_OVER = "journal.over"


@attrs.frozen
class RestoreJournal:
    """What a restore is doing.

    In phase `staging` the workspace has got nothing but the staging folder: it is taken back. In phase
    `applying` it may be a mix: the restore is done again. In phase `abandoning` a person has chosen to leave it so, and
    what was taken away goes to the folder `replaced`. `root_mtime_ns` is the time that the workspace's
    folder itself shall have.

    `drops` are the paths that go, in the order in which they are moved into the staging folder (the first becomes
    `o1` there). `old` has every file at and below them as it was found, (inode, time, size), and three zeros for
    what is no file: whatever else goes when the restore is done again is somebody's newer work. `excluded` was no
    part of it.

    A restore that is done again has attempts behind it that were killed as well, `earlier`: the staging folder and the
    drops of each, which stay until the end. `newer` are the paths of newer work that a person has agreed to lose,
    and `kept` is the snapshot that has them.
    """

    phase: Phase
    snapshot_id: str
    staging: str
    root_mtime_ns: int
    drops: list[str] = attrs.field(factory=list)
    old: dict[str, list[int]] = attrs.field(factory=dict)
    excluded: list[str] = attrs.field(factory=list)
    earlier: list[tuple[str, list[str]]] = attrs.field(factory=list)
    newer: list[str] = attrs.field(factory=list)
    kept: str | None = None
    replaced: str | None = None

    def __attrs_post_init__(self) -> None:
        """:raises ValueError: if a damaged file names something else."""
        for staging, _ in self.attempts:
            if not staging.startswith(STAGING_PREFIX.decode()) or "/" in staging:
                raise ValueError("it names no staging folder")
        if self.replaced is not None and (
            not self.replaced.startswith(REPLACED_PREFIX) or "/" in self.replaced
        ):
            raise ValueError("it names no folder for what was replaced")

    @property
    def attempts(self) -> list[tuple[str, list[str]]]:
        """The staging folder and the drops of each attempt, the first one first."""
        return [*self.earlier, (self.staging, self.drops)]

    def write(self, store: PackStore) -> None:
        """Make it the store's journal, durably."""
        store.write(_NAME, json.dumps(attrs.asdict(self, recurse=False)).encode() + b"\n")

    @staticmethod
    def read(store: PackStore) -> RestoreJournal | None:
        """The journal of a restore that did not end, if there is one.

        One that has only its staging folders left to remove is in phase `staging`.
        """
        for name in (_NAME, _OVER):
            data = store.read(name)
            if data is None:
                continue
            try:
                found = msgspec.convert(json.loads(data), RestoreJournal)
            except (ValueError, RecursionError, msgspec.MsgspecError) as exc:
                raise SnapshotError(
                    f"the journal {str(store.folder / name)!r} is damaged ({exc}): the workspace may be half restored; "
                    "remove that file and restore again"
                ) from exc
            return found if name == _NAME else attrs.evolve(found, phase="staging")
        return None

    @staticmethod
    def left(store: PackStore) -> bool:
        """Whether there is one, damaged or not."""
        return any((store.folder / name).exists() for name in (_NAME, _OVER))

    @staticmethod
    def applied(store: PackStore) -> None:
        """The workspace is what it shall be: whatever changes from now on is not the restore's business.

        The same file by another name, so that a power cut leaves one of the two whole.
        """
        with contextlib.suppress(FileNotFoundError):
            os.rename(store.folder / _NAME, store.folder / _OVER)

    @staticmethod
    def clear(store: PackStore) -> None:
        """The restore is over."""
        store.remove(_NAME)
        store.remove(_OVER)

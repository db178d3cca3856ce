"""The journal of a restore: a file in the store that says how far it came, so that the next one can end it."""

from __future__ import annotations

import json
from typing import Literal

import attrs
from agentd.errors import SnapshotError

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
    """

    phase: Phase
    snapshot_id: str
    staging: str
    root_mtime_ns: int

    def write(self, store: PackStore) -> None:
        """Make it the store's journal, durably."""
        store.write(_NAME, json.dumps(attrs.asdict(self)).encode() + b"\n")

    @staticmethod
    def read(store: PackStore) -> RestoreJournal | None:
        """The journal of a restore that did not end, if there is one."""
        data = store.read(_NAME)
        if data is None:
            return None
        try:
            return RestoreJournal(**json.loads(data))
        except (ValueError, TypeError) as exc:
            raise SnapshotError(
                f"the journal {str(store.folder / _NAME)!r} is damaged ({exc}): the workspace may be half restored; "
                "remove that file and restore again"
            ) from exc

    @staticmethod
    def clear(store: PackStore) -> None:
        """The restore is over."""
        store.remove(_NAME)

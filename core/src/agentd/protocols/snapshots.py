"""Stores of workspace snapshots."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from agentd.selectors import KeptSnapshot, Selector

__all__ = ["AsyncSnapshotStore", "KeptSnapshot", "SnapshotStore"]


class SnapshotStore(Protocol):
    """The snapshots of one workspace. Blocking; called in worker threads, one call at a time.

    `wanted` is an id, a label, or a turn; the newest that fits counts. A snapshot may carry an `attachment`: bytes
    that come back as they were (a session's checkpoint keeps its transcript and shell in it). Methods raise
    `UnknownSnapshotError` for what is not there and `SnapshotError` for what fails; a restore that fails leaves
    the workspace as it was.
    """

    def snapshot(
        self, label: str | None = None, *, turn: int | None = None, attachment: bytes | None = None
    ) -> KeptSnapshot: ...

    def restore(self, wanted: Selector) -> KeptSnapshot: ...

    def copy_to(self, wanted: Selector, folder: Path) -> Path:
        """Write the snapshot into an empty or new folder outside the workspace."""

    def list_snapshots(self) -> Sequence[KeptSnapshot]:
        """Return all of them, the oldest first."""

    def has_attachment(self, id: str) -> bool: ...

    def attachment(self, id: str) -> bytes | None:
        """Return what the snapshot carries; None if it carries nothing. One that is gone is None, too, or raises."""

    def delete_snapshot(self, wanted: Selector) -> KeptSnapshot | None: ...


@runtime_checkable
class AsyncSnapshotStore(Protocol):
    """What a snapshot store also has if its long work can be cancelled: the same, awaited."""

    async def asnapshot(
        self, label: str | None = None, *, turn: int | None = None, attachment: bytes | None = None
    ) -> KeptSnapshot: ...

    async def arestore(self, wanted: Selector) -> KeptSnapshot: ...

    async def acopy_to(self, wanted: Selector, folder: Path) -> Path: ...

    async def adelete_snapshot(self, wanted: Selector) -> KeptSnapshot | None: ...

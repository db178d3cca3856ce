"""Stores of workspace snapshots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import attrs

from agentd.selectors import KeptSnapshot, Selector

__all__ = ["AsyncSnapshotStore", "Checkpoint", "KeptSnapshot", "SnapshotStore", "Timeline"]


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


@attrs.frozen(kw_only=True)
class Checkpoint:
    """One kept moment of a session.

    `id`, `label`, `turn` and `timestamp` (seconds since the epoch) are those of the snapshot of the workspace
    that belongs to it.
    """

    id: str
    label: str | None
    turn: int
    timestamp: float


class Timeline(Protocol):
    """The checkpoints of a session. Made by the hook `agentd_create_timeline`; `Session` says what each method does."""

    def checkpoints(self) -> list[Checkpoint]: ...

    async def take(self, label: str | None = None) -> Checkpoint: ...

    async def go_back(self, wanted: Selector | Checkpoint | None) -> Checkpoint:
        """Make workspace, transcript and shell what they were; nothing changes if the workspace cannot be."""

    async def branch(
        self, wanted: Selector | Checkpoint | None, folder: Path
    ) -> tuple[Any, Mapping[str, Any] | None]:
        """Copy a checkpoint's workspace into an empty folder and return its `Transcript` and shell."""

    def begin_with(self, shell: Mapping[str, Any] | None) -> None:
        """Have the first block start from this state of the shell."""

    async def settle(self) -> None:
        """Bring the shell to where it is to be, before blocks run."""

    async def delete(self, wanted: Selector | Checkpoint) -> Checkpoint: ...

    async def resume(self) -> None:
        """Go to the newest, if there is one."""

    async def aclose(self) -> None: ...

"""`WorkspaceSnapshots`: the snapshots of an executor's workspace, as methods of the executor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentd._concurrency.pool import call_in_thread

from agentd_runner.host.environment import OWN_FOLDER
from agentd_runner.host.placeholders import standing_names
from agentd_runner.inside.timings import KILL_MARGIN_S

if TYPE_CHECKING:
    import threading

    from agentd.registry.options import PluginSpec
    from agentd.types import Limits

    from agentd_runner.host.connection import Connection
    from agentd_runner.host.jobs import JobLedger
    from agentd_runner.host.tool_calls import CodeCalls

__all__ = ["WorkspaceSnapshots"]


class WorkspaceSnapshots:
    """What executors have in common here: the workspace is a directory of the host, whatever the sandbox is.

    They work before the first action, between blocks and while one runs. A restore ends what runs, so that nothing
    writes to files that are no more there; where nothing runs it does not change where the shell is, unless the
    executor has to be paused for it in any case (`srt`): then the next block has a fresh shell. The snapshots are
    on disk, in a store named after the workspace, so another executor over the same workspace, also in a later
    process, finds them. Snapshot code is imported when it is first used.
    """

    workspace_dir: Path
    base_dir: Path | None = None
    """Where snapshots lie, in its folder `snapshots`; without it, in the user's state folder."""
    snapshot_store: PluginSpec = "packs"
    """The plugin that keeps them, with options perhaps."""
    _snapshots: Any = None

    # what the executor has
    limits: Limits
    _start_lock: threading.Lock
    _calls: CodeCalls
    _jobs: JobLedger
    _kept: bool
    _connected: Callable[[], Connection | None]

    @property
    def snapshot_exclude(self) -> tuple[str, ...]:
        """Paths in the workspace that are no part of snapshots now: what stands in for absent files (`stand_ins`), of
        whichever executor, while a sandbox runs there."""
        return tuple(name for name in standing_names(self.workspace_dir) if name.split("/")[0] != OWN_FOLDER)

    def pause(self) -> None:
        """End what must not run while files are replaced from outside: blocks, jobs, and an interpreter that keeps its
        names and with them its open files. Then the next block has a fresh shell, and its result says so. Blocks."""
        with self._start_lock:
            connection = self._connected()
            if connection is not None and (self._calls.actions or self._kept or self._jobs.running):
                reason = "what ran was ended before files of the workspace were replaced"
                connection.close(self.limits.grace_s + KILL_MARGIN_S, reason)
                self._kept = False

    @property
    def snapshot_manager(self) -> Any:
        """The snapshots of the workspace: what the plugin named by `snapshot_store` makes. With `packs`, an
        `agentd_snapshots.Snapshots` and everything that it can do.

        :raises MissingPluginError: if the plugin's distribution is not installed; it is named.
        :raises ConfigError: if `base_dir` lies in the workspace.
        :raises SnapshotError: if the store cannot be used.
        """
        if self._snapshots is None:
            from agentd.registry import Registry

            base = None if self.base_dir is None else self.base_dir / "snapshots"
            self._snapshots = Registry().create_snapshot_store(
                self.snapshot_store, self.workspace_dir, base, lambda: self.snapshot_exclude
            )
        return self._snapshots

    def snapshot(self, label: str | None = None, *, turn: int | None = None) -> Any:
        """Keep the workspace as it is now; see `Snapshots.snapshot`."""
        return self.snapshot_manager.snapshot(label, turn=turn)

    def restore(self, wanted: object) -> Any:
        """Make the workspace what it was: by id, label or turn. Returns the snapshot; see `Snapshots.restore`.

        :raises UnknownSnapshotError: if there is none of that id, label or turn.
        """
        self.pause()
        return self.snapshot_manager.restore(wanted)

    def list_snapshots(self) -> Any:
        """All snapshots of the workspace, the oldest first."""
        return self.snapshot_manager.list_snapshots()

    def delete_snapshot(self, wanted: object) -> Any:
        """Remove a snapshot and the contents that no other one needs; see `Snapshots.delete_snapshot`."""
        return self.snapshot_manager.delete_snapshot(wanted)

    def diff(self, a: object, b: object = None) -> Any:
        """Say what is different in `b` (None: the workspace as it is) compared with `a`."""
        return self.snapshot_manager.diff(a, b)

    async def asnapshot(self, label: str | None = None, *, turn: int | None = None) -> Any:
        """`snapshot`, awaited."""
        return await (await self._manager()).asnapshot(label, turn=turn)

    async def arestore(self, wanted: object) -> Any:
        """`restore`, awaited. Cancelled, it leaves the workspace as it was or as it shall be."""
        await call_in_thread(self.pause)
        return await (await self._manager()).arestore(wanted)

    async def alist_snapshots(self) -> Any:
        """`list_snapshots`, awaited."""
        return await (await self._manager()).alist_snapshots()

    async def adelete_snapshot(self, wanted: object) -> Any:
        """`delete_snapshot`, awaited."""
        return await (await self._manager()).adelete_snapshot(wanted)

    async def adiff(self, a: object, b: object = None) -> Any:
        """`diff`, awaited."""
        return await (await self._manager()).adiff(a, b)

    async def _manager(self) -> Any:
        # In a thread: it imports, opens the store and may end a restore that was killed.
        return await call_in_thread(lambda: self.snapshot_manager)

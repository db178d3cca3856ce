"""The snapshot store `packs`: the hook. Nothing heavy: the store is imported inside."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agentd.hookspecs import hookimpl
from agentd.registry.options import check_options

if TYPE_CHECKING:
    from agentd.registry.options import PluginSpec
    from agentd.session.resources import SessionResources
    from agentd.turn.transcript import Transcript

    from agentd_snapshots.snapshots import Snapshots
    from agentd_snapshots.timeline import SessionTimeline

__all__ = [
    "AGENTD_API", "agentd_create_snapshot_store", "agentd_create_timeline", "agentd_settle_workspace",
]  # fmt: skip

AGENTD_API: Final = 1


@hookimpl
def agentd_create_snapshot_store(
    workspace_dir: Path,
    base_dir: Path | None,
    exclude: Callable[[], Sequence[str]],
    options: Mapping[str, Any],
) -> Snapshots:
    """Open the store of a workspace. Options: `ignore`, patterns of what snapshots leave out; `lock_timeout_s`."""
    check_options("the snapshot store 'packs'", options, {"ignore": list, "lock_timeout_s": float})
    from agentd_snapshots.snapshots import Snapshots

    return Snapshots(workspace_dir, base_dir, exclude=exclude, **options)


@hookimpl
def agentd_create_timeline(
    resources: SessionResources,
    transcript: Transcript,
    store: PluginSpec,
    base_dir: str | Path | None,
    has_code: bool,
) -> SessionTimeline:
    """Make the checkpoints of a session, over any store."""
    from agentd_snapshots.timeline import SessionTimeline

    return SessionTimeline(resources, transcript, store, base_dir, has_code=has_code)


@hookimpl
def agentd_settle_workspace(workspace_dir: Path) -> list[str]:
    """Finish a restore that was killed, or raise `UnfinishedRestoreError`, which names both ways to go on."""
    from agentd_snapshots.settling import settle

    return settle(workspace_dir)

"""The snapshot store `packs`: the hook. Nothing heavy: the store is imported inside."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agentd.hookspecs import hookimpl
from agentd.registry.options import check_options

if TYPE_CHECKING:
    from agentd_snapshots.snapshots import Snapshots

__all__ = ["AGENTD_API", "agentd_create_snapshot_store", "agentd_settle_workspace"]

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
def agentd_settle_workspace(workspace_dir: Path) -> list[str]:
    """Finish a restore that was killed, or raise `UnfinishedRestoreError`, which names both ways to go on."""
    from agentd_snapshots.settling import settle

    return settle(workspace_dir)

"""Snapshots of a workspace: content-addressed, incremental, restored in place, the same for every executor.

Layers, imports point down only: `snapshots` (the API) · `recovery` · `restore` (`plan`, `staging`, `unfinished`,
`journal`) · `scan` (`content`, `rules`) · `store` (`packs`) · `tree`, `walker`, `values`, `digest`. Nothing here is
imported before a session wants a snapshot, so msgspec is imported at the top of modules.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from agentd_snapshots.snapshots import Snapshots
    from agentd_snapshots.store import PackStore
    from agentd_snapshots.unfinished import UnfinishedRestoreError
    from agentd_snapshots.values import Diff, LeftOut, Selector, Snapshot, SnapshotStats

__all__ = [
    "Diff",
    "LeftOut",
    "PackStore",
    "Selector",
    "Snapshot",
    "SnapshotStats",
    "Snapshots",
    "UnfinishedRestoreError",
]

# the plugin's hooks must not pay for what only a snapshot needs
_LAZY: Final = {"PackStore": "store", "Snapshots": "snapshots", "UnfinishedRestoreError": "unfinished"}


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module(f"agentd_snapshots.{_LAZY.get(name, 'values')}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Snapshots of a workspace: content-addressed, incremental, restored in place, the same for every executor.

Layers, imports point down only: `snapshots` (the API) · `restore` (`plan`, `staging`, `journal`) · `scan`
(`content`, `rules`) · `store` (`packs`) · `tree`, `walker`, `values`, `digest`. Nothing here is imported before a
session wants a snapshot, so msgspec is imported at the top of modules.
"""

from __future__ import annotations

from agentd_snapshots.snapshots import Snapshots
from agentd_snapshots.store import PackStore
from agentd_snapshots.values import Diff, LeftOut, Selector, Snapshot, SnapshotStats

__all__ = ["Diff", "LeftOut", "PackStore", "Selector", "Snapshot", "SnapshotStats", "Snapshots"]

"""The store `packs` keeps the contract of snapshot stores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from agentd_snapshots.plugin import agentd_create_snapshot_store
from agentd_snapshots.snapshots import Snapshots
from agentd_testing import SnapshotStoreContract


class TestPacks(SnapshotStoreContract):
    def make_store(self, workspace: Path, base_dir: Path, exclude: Callable[[], Sequence[str]]) -> Snapshots:
        return agentd_create_snapshot_store(workspace, base_dir, exclude, {})

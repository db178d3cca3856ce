"""The store keeps what every snapshot store promises, in a folder, in memory and behind S3."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

import pytest
from agentd.protocols import SnapshotStore
from agentd_store import StoredSnapshots
from agentd_testing import SnapshotStoreContract


class TestStore(SnapshotStoreContract):
    """A workspace has a conversation of its own. One object has it at a time: the next one takes it over here."""

    @pytest.fixture(autouse=True)
    def _place(self, url: str) -> None:
        self.url = url
        self.opened: dict[str, StoredSnapshots] = {}

    def make_store(
        self, workspace: Path, base_dir: Path, exclude: Callable[[], Sequence[str]]
    ) -> SnapshotStore:
        conversation = sha256(bytes(workspace)).hexdigest()[:16]
        if conversation in self.opened:
            self.opened[conversation].close()
        made = StoredSnapshots(workspace, self.url, conversation, base_dir=base_dir, exclude=exclude)
        self.opened[conversation] = made
        return made

"""What the snapshot tests share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """An empty workspace."""
    path = tmp_path / "workspace"
    path.mkdir()
    return path


@pytest.fixture
def base_dir(tmp_path: Path) -> Path:
    """A folder for snapshots beside it."""
    return tmp_path / "base"

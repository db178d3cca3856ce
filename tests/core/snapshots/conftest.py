"""What the snapshot tests share."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

# pytest's importlib mode leaves helper modules that lie beside the tests unfindable
sys.path.insert(0, str(Path(__file__).parent))


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

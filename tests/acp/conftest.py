"""What the tests of `agentd acp` share."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_process import Command, agentd as agentd, survivors as survivors


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # the SDK's


@pytest.fixture(autouse=True)
def home(tmp_path: Path, agentd: Command) -> Path:
    """The person's home folder, where state and configuration lie."""
    home = tmp_path / "home"
    home.mkdir()
    agentd.env |= {
        "HOME": str(home),
        "XDG_STATE_HOME": str(home / ".local/state"),
        "XDG_CONFIG_HOME": str(home / ".config"),
    }
    return home

"""What the tests of `agentd chat` share."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from chat_person import ChatPerson
from command_process import Command, agentd as agentd


@pytest.fixture
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


@pytest.fixture
def talk(agentd: Command, home: Path) -> Iterator[type[ChatPerson]]:
    """Starts `agentd ARGUMENTS` on a terminal, in the command's folder and environment."""
    started: list[ChatPerson] = []

    class Started(ChatPerson):
        def __init__(self, *arguments: str) -> None:
            super().__init__([sys.executable, "-m", "agentd", *arguments], agentd.env, agentd.cwd)
            started.append(self)

    yield Started
    for person in started:
        person.__exit__()

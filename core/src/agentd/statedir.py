"""The user's state folder: what outlives a program lies there (tokens, snapshots, the daemon's journals)."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["make_private", "user_state_dir"]


def user_state_dir() -> Path:
    """Return agentd's part of it, `$XDG_STATE_HOME/agentd` (`~/.local/state/agentd` without it); it need not exist."""
    given = os.environ.get("XDG_STATE_HOME", "")
    # A relative one is to be ignored, says the XDG base directory specification.
    state = Path(given) if os.path.isabs(given) else Path.home() / ".local" / "state"
    return state / "agentd"


def make_private(folder: Path) -> None:
    """Make a folder if it is not there. It, and those above it that are made with it, are for this user alone.

    :raises OSError: if it cannot be made, or is something else.
    """
    if not folder.is_dir():
        if folder != folder.parent:
            make_private(folder.parent)  # `mkdir(parents=True)` would open those to everybody
        folder.mkdir(mode=0o700, exist_ok=True)

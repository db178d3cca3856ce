"""Where snapshots of a workspace lie: in the user's state folder, in a folder named after the workspace's path."""

from __future__ import annotations

import os
from pathlib import Path

from agentd.errors import ConfigError
from agentd.statedir import user_state_dir

from agentd_snapshots.digest import digest_of

__all__ = ["default_base_dir", "store_folder"]


def default_base_dir() -> Path:
    """The folder for the snapshots of all workspaces of this user, in `agentd.statedir.user_state_dir()`."""
    return user_state_dir() / "snapshots"


def store_folder(workspace: Path, base_dir: str | os.PathLike[str] | None) -> Path:
    """The folder of one workspace's store; it is the same for every process that gives the same two paths.

    :raises ConfigError: if it would lie in the workspace, where code could change it.
    """
    base = Path(base_dir).expanduser() if base_dir is not None else default_base_dir()
    base = base.resolve()
    if base == workspace or base.is_relative_to(workspace):
        raise ConfigError(
            f"base_dir {str(base)!r}: must lie outside the workspace {str(workspace)!r}, or code that runs there could "
            "change the snapshots; give another base_dir"
        )
    return base / digest_of(os.fsencode(workspace))[:16].hex()

"""The workspace: the one directory that running code may write to, and what plugins have left unfinished there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from agentd.errors import WorkspaceError
from agentd.statedir import user_state_dir

if TYPE_CHECKING:
    from agentd.registry import Registry

__all__ = ["open_workspace", "settle_workspace", "unfinished_dir"]


def open_workspace(path: str | os.PathLike[str]) -> Path:
    """Return the directory as a resolved path; it is made, with its parents, if it is not there.

    Raises `WorkspaceError` if it is something else than a directory, cannot be made or cannot be written to.
    """
    wanted = Path(path).expanduser()
    try:
        wanted.mkdir(parents=True, exist_ok=True)
        found = wanted.resolve(strict=True)
    except FileExistsError:
        raise WorkspaceError(
            f"workspace {str(wanted)!r}: must be a directory, but this is a file; give another cwd or move the file"
        ) from None
    except (OSError, ValueError, RuntimeError) as exc:  # RuntimeError: a loop of symbolic links before 3.13
        raise WorkspaceError(
            f"workspace {str(wanted)!r}: cannot be made: {exc}; give a cwd below a directory that you may write to"
        ) from exc
    if not os.access(found, os.W_OK | os.X_OK):
        raise WorkspaceError(
            f"workspace {str(found)!r}: you may not write there; change its mode or give another cwd"
        )
    return found


def unfinished_dir(workspace: Path) -> Path:
    """Where plugins mark that they have begun something in a workspace: a file `KIND.NAME` each, until it is done."""
    from hashlib import sha256

    return user_state_dir() / "unfinished" / sha256(os.fsencode(workspace)).hexdigest()[:32]


def settle_workspace(workspace: Path, registry: Callable[[], Registry] | None = None) -> list[str]:
    """Have plugins finish what they were killed in, before code runs in a workspace; return what they say. Blocks.

    :raises AgentdError: as `agentd_settle_workspace` does: a person has to decide first.
    """
    try:
        marks = sorted(os.listdir(unfinished_dir(workspace)))
    except (OSError, RuntimeError):  # RuntimeError: nobody knows where this user's home is
        return []
    from agentd.registry import Registry

    settle = (registry or Registry)().settle_workspace
    return [text for mark in marks for text in settle(*mark.partition(".")[::2], workspace)]

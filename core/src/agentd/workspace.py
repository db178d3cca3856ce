"""The workspace: the one directory that running code may write to."""

from __future__ import annotations

import os
from pathlib import Path

from agentd.errors import WorkspaceError

__all__ = ["open_workspace"]


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

"""Settling a workspace before code runs there: the restore whose mark it has is finished."""

from __future__ import annotations

import logging
from pathlib import Path

from agentd_snapshots.snapshots import Snapshots
from agentd_snapshots.unfinished import marked_store, unmark

__all__ = ["settle"]

log = logging.getLogger("agentd.snapshots")


def settle(workspace: Path) -> list[str]:
    """Finish the restore that was killed in a workspace, and say so.

    :raises UnfinishedRestoreError: if its end would remove what is newer.
    """
    folder = marked_store(workspace)
    if folder is None:
        return []
    if not folder.is_dir():
        unmark(workspace)
        text = (
            f"restoring a snapshot in {str(workspace)!r} was interrupted, and its store {str(folder)!r} is gone: "
            "the folder may be a mix of two states"
        )
        log.warning("%s", text)
        return [text]
    said = Snapshots(workspace, folder.parent, settle=False).settle()
    unmark(workspace)  # killed between the end of the restore and that of its mark
    return said

"""`python -m agentd_snapshots finish|abandon WORKSPACE [BASE_DIR]`: what to do with an interrupted restore."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from agentd.errors import AgentdError

from agentd_snapshots.snapshots import Snapshots
from agentd_snapshots.unfinished import marked_store


def main() -> int:
    """Do it, say what was done, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m agentd_snapshots", description=__doc__)
    parser.add_argument("what", choices=["finish", "abandon"])
    parser.add_argument("workspace", type=Path)
    parser.add_argument(
        "base_dir", type=Path, nargs="?", help="where its snapshots lie, if not where agentd knows"
    )
    wanted = parser.parse_args()
    try:
        print(_carry_out(wanted.what, wanted.workspace.resolve(), wanted.base_dir))
    except AgentdError as exc:
        print(f"agentd_snapshots: {exc}", file=sys.stderr)
        return 2
    return 0


def _carry_out(what: str, workspace: Path, base_dir: Path | None) -> str:
    marked = marked_store(workspace)
    if base_dir is None and marked is not None:
        base_dir = marked.parent
    snapshots = Snapshots(
        workspace, base_dir, settle=False
    )  # else it would be finished first where nobody has worked
    if what == "abandon":
        replaced = snapshots.abandon_restore()
        return "the workspace stays as it is" + (
            f"; what the restore had taken away lies in {str(replaced)!r}" if replaced else ""
        )
    kept = snapshots.finish_restore()
    return (
        f"the restore is finished; as it was before, the workspace is kept in the snapshot {kept.id!r}"
        if kept
        else "no restore is unfinished"
    )


if __name__ == "__main__":
    raise SystemExit(main())

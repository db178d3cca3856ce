"""A workspace in which a restore was killed in its midst."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from agentd_snapshots import Snapshots
from agentd_snapshots.journal import RestoreJournal
from snapshot_trees import write

__all__ = ["kill_a_finish", "kill_a_restore"]


def kill_a_restore(
    workspace: Path, base_dir: Path | None, *, replaced: int = 1, exclude: Sequence[str] = ()
) -> None:
    """Restore the first of two states, and kill it when it has taken away `replaced` of three entries.

    The first state has `edited` (one), `gone` and a folder `tree`; the second `edited` (two), a folder `new` and a
    file `tree`; both have `same`.
    """
    write(workspace, {"same": "same", "edited": "one", "gone": "one", "tree/a": "one"})
    snapshots = Snapshots(workspace, base_dir, exclude=exclude)
    snapshots.snapshot("first")
    shutil.rmtree(workspace / "tree")
    write(workspace, {"edited": "two", "gone": None, **{f"new/{n}": "two" for n in range(3)}, "tree": "two"})
    snapshots.snapshot("second")
    write(workspace, {f"{name}/file": "kept" for name in exclude})
    _killed(lambda: snapshots.restore("first"), replaced)
    assert RestoreJournal.left(snapshots.store)


def kill_a_finish(snapshots: Snapshots, *, replaced: int = 1) -> None:
    """Have a person finish the restore that was killed, and kill that when it has taken away so many entries."""
    _killed(snapshots.finish_restore, replaced)
    assert RestoreJournal.left(snapshots.store)


def _killed(work: Callable[[], object], replaced: int) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            _kill_after(replaced)
            work()
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL


def _kill_after(replaced: int) -> None:
    """Kill this process when so many entries were moved into the staging folder."""
    left = [replaced]
    rename = os.rename

    def counted(source: Any, target: Any, **folders: Any) -> None:
        rename(source, target, **folders)
        if isinstance(target, bytes) and target.startswith(b"o"):
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)

    os.rename = counted

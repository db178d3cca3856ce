"""`Recovery`: the part of `Snapshots` that deals with a restore that was killed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from agentd_snapshots.content import Poll
from agentd_snapshots.journal import RestoreJournal
from agentd_snapshots.restore import Restorer, remove_staging, set_mtime
from agentd_snapshots.store import PackStore
from agentd_snapshots.unfinished import UnfinishedRestoreError, keep_replaced, newer_paths, unmark

if TYPE_CHECKING:
    from agentd_snapshots.plan import Plan
    from agentd_snapshots.tree import FileTree
    from agentd_snapshots.values import Snapshot

__all__ = ["Recovery", "go_on"]

log = logging.getLogger("agentd.snapshots")

_TASK = "finish an interrupted restore"


def go_on() -> None:
    """The poll of callers that cannot be cancelled."""


class Recovery:
    """What a killed restore has begun is finished by the next process, unless somebody has worked there since."""

    workspace_dir: Path
    store: PackStore
    _said: list[str]

    def settle(self) -> list[str]:
        """Finish a restore that was killed, as all other methods do first, and say what was done since the start.

        :raises UnfinishedRestoreError: if its end would remove what is newer.
        """
        with self._locked(_TASK, go_on):
            said, self._said = self._said, []
            return said

    def finish_restore(self) -> Snapshot | None:
        """Finish a restore that was killed although files have changed since.

        The workspace as it is now is kept first, as the snapshot that is returned; None if nothing is unfinished.

        :raises SnapshotError: if either cannot be done; the workspace stays as it is.
        """
        with self._locked(_TASK, go_on, recover=False):
            journal = RestoreJournal.read(self.store)
            if journal is None:
                return None
            label = f"before finishing {journal.snapshot_id}"
            kept = self._keep(label, None, None, go_on) if journal.phase == "applying" else None
            self._recover(journal, insist=True)
            return kept

    def abandon_restore(self) -> Path | None:
        """Leave the workspace as a killed restore has left it, with all changes since, and forget the restore.

        What it had taken away until then is put into a new folder `replaced-by-ID` of the workspace, which is
        returned; None if there is nothing.
        """
        with self._locked(_TASK, go_on, recover=False), self._root() as root_fd:
            journal = RestoreJournal.read(self.store)
            if journal is None:
                return None
            name = keep_replaced(root_fd, journal)
            RestoreJournal.clear(self.store)
            unmark(self.workspace_dir)
            return None if name is None else self.workspace_dir / name

    def _recover(self, journal: RestoreJournal, *, insist: bool = False) -> None:
        applying = journal.phase == "applying"
        if applying or self.workspace_dir.is_dir():
            self._finish(journal, check=None if insist else partial(self._check, journal))
        RestoreJournal.clear(self.store)
        unmark(self.workspace_dir)
        if applying:
            self._said.append(
                f"restoring {journal.snapshot_id!r} in {str(self.workspace_dir)!r} had been interrupted; "
                "it is finished now"
            )
            log.warning("%s", self._said[-1])

    def _finish(self, journal: RestoreJournal, check: Callable[[Plan, FileTree], None] | None) -> None:
        new = not self.workspace_dir.exists()
        with self._root(make=True) as root_fd:
            if journal.phase == "applying":
                restorer = self._restorer(root_fd, journal.snapshot_id, go_on, new=new)
                restorer.rules = restorer.rules.excluding(journal.excluded)
                restorer.redo, restorer.check = journal, check
                restorer.run()
                journal = restorer.redo
            remove_staging(root_fd, journal.staging)
            set_mtime(root_fd, journal.root_mtime_ns)

    def _check(self, journal: RestoreJournal, plan: Plan, current: FileTree) -> None:
        newer = newer_paths(plan, current, journal)
        if newer:
            raise UnfinishedRestoreError(self.workspace_dir, self.store.folder, journal.snapshot_id, newer)

    # --- what `Snapshots` has ------------------------------------------------------------------------

    def _locked(self, task: str, poll: Poll, *, recover: bool = True) -> AbstractContextManager[None]:
        raise NotImplementedError

    def _root(self, *, make: bool = False) -> AbstractContextManager[int]:
        raise NotImplementedError

    def _restorer(self, root_fd: int, snapshot_id: str, poll: Poll, *, new: bool = False) -> Restorer:
        raise NotImplementedError

    def _keep(self, label: str | None, turn: int | None, attachment: bytes | None, poll: Poll) -> Snapshot:
        raise NotImplementedError

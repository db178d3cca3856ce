"""`Recovery`: the part of `Snapshots` that deals with a restore that was killed."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import attrs

from agentd_snapshots.content import Poll
from agentd_snapshots.journal import RestoreJournal
from agentd_snapshots.restore import Restorer, sweep
from agentd_snapshots.store import PackStore
from agentd_snapshots.unfinished import UnfinishedRestoreError, free_replaced, keep_replaced, unmark

if TYPE_CHECKING:
    from agentd_snapshots.values import Selector, Snapshot

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

        The workspace as it is now is kept first, as the snapshot that is returned; None if nothing is unfinished. If
        this is killed as well, both choices are there again, and what was kept is not kept twice.

        :raises SnapshotError: if either cannot be done; the workspace stays as it is.
        """
        with self._locked(_TASK, go_on, recover=False):
            journal = RestoreJournal.read(self.store)
            if journal is None:
                return None
            if journal.phase == "staging":
                self._recover(journal)
                return None
            kept = self._kept_before(journal)
            self._recover(attrs.evolve(journal, phase="applying", replaced=None, kept=kept.id), insist=True)
            return kept

    def abandon_restore(self) -> Path | None:
        """Leave the workspace as a killed restore has left it, with all changes since, and forget the restore.

        What it had taken away until then is put into a new folder `replaced-by-ID` of the workspace, which is
        returned; None if there is nothing. If attempts to finish it were killed as well, what each of them had taken
        away lies in a folder of its number there. If this is killed, the next process that opens the workspace ends it.
        """
        with self._locked(_TASK, go_on, recover=False):
            journal = RestoreJournal.read(self.store)
            if journal is None:
                return None
            if journal.phase == "staging":  # nothing of it is in the workspace, or all
                self._recover(journal)
                return None
            return self._abandon(journal)

    def _kept_before(self, journal: RestoreJournal) -> Snapshot:
        """The workspace as it was before a person had the restore finished, perhaps in an attempt that was killed."""
        if journal.kept in self.store.ids():
            with self._root(make=True) as root_fd:
                if not self._redoing(root_fd, journal).newer():
                    return self.find(journal.kept)
        again = " again" if journal.kept else ""
        return self._keep(f"before finishing {journal.snapshot_id}{again}", None, None, go_on)

    def _abandon(self, journal: RestoreJournal) -> Path | None:
        with self._root(make=True) as root_fd:
            if journal.phase != "abandoning":
                journal = attrs.evolve(
                    journal, phase="abandoning", replaced=free_replaced(root_fd, journal.snapshot_id)
                )
                journal.write(self.store)
            name = keep_replaced(root_fd, journal)
        RestoreJournal.clear(self.store)
        unmark(self.workspace_dir)
        return None if name is None else self.workspace_dir / name

    def _recover(self, journal: RestoreJournal, *, insist: bool = False) -> None:
        if journal.phase == "abandoning":
            folder = self._abandon(journal)
            where = f"; what it had taken away lies in {str(folder)!r}" if folder else ""
            self._say(f"leaving the workspace without restoring {journal.snapshot_id!r} is done now{where}")
            return
        applying = journal.phase == "applying"
        if applying or self.workspace_dir.is_dir():
            self._finish(journal, insist=insist)
        RestoreJournal.clear(self.store)
        unmark(self.workspace_dir)
        if applying:
            self._say(
                f"restoring {journal.snapshot_id!r} in {str(self.workspace_dir)!r} had been interrupted; "
                "it is finished now"
            )

    def _finish(self, journal: RestoreJournal, *, insist: bool) -> None:
        new = not self.workspace_dir.exists()
        with self._root(make=True) as root_fd:
            if journal.phase == "applying":
                restorer = self._redoing(root_fd, journal, new=new)
                restorer.ask = None if insist else partial(self._ask, journal)
                restorer.run()
                RestoreJournal.applied(self.store)
                journal = restorer.redo or journal
            sweep(root_fd, journal)

    def _redoing(self, root_fd: int, journal: RestoreJournal, *, new: bool = False) -> Restorer:
        restorer = self._restorer(root_fd, journal.snapshot_id, go_on, new=new)
        restorer.rules = restorer.rules.excluding(journal.excluded)
        restorer.redo = journal
        return restorer

    def _ask(self, journal: RestoreJournal, newer: list[str]) -> NoReturn:
        raise UnfinishedRestoreError(
            self.workspace_dir, self.store.folder, journal.snapshot_id, newer, kept=journal.kept
        )

    def _say(self, text: str) -> None:
        self._said.append(text)
        log.warning("%s", text)

    # --- what `Snapshots` has ------------------------------------------------------------------------

    def _locked(self, task: str, poll: Poll, *, recover: bool = True) -> AbstractContextManager[None]:
        raise NotImplementedError

    def _root(self, *, make: bool = False) -> AbstractContextManager[int]:
        raise NotImplementedError

    def _restorer(self, root_fd: int, snapshot_id: str, poll: Poll, *, new: bool = False) -> Restorer:
        raise NotImplementedError

    def _keep(self, label: str | None, turn: int | None, attachment: bytes | None, poll: Poll) -> Snapshot:
        raise NotImplementedError

    def find(self, wanted: Selector | Snapshot) -> Snapshot:
        raise NotImplementedError

"""The ledger of what was to wake a daemon's agents: sent, accepted, run; and what of it was lost.

It reads the daemon's journal beside it, before settled tasks are pruned there. What it knows is plain data, kept with
the run's state, so that it goes on after a pause.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
from agentd_daemon.journal import Journal, JournalError, Trigger

from endurance.world import Tally

__all__ = ["AGENTS", "LedgerBook", "TriggerLedger"]

AGENTS = ("watcher", "clock", "inbox", "hooks")
READ = 950  # the daemon keeps 1,000
_FILE = re.compile(r'^created: "(.+)"$', re.MULTILINE)
_DUE = re.compile(r"^Due at (\S+ \S+) \(")


@attrs.define
class LedgerBook:
    """What is written down.

    :ivar waiting: what was accepted, by its task's id, and has not run yet; `files`, the same by the file's name.
    :ivar pages: by URI, what was written last; `known`, what the last task about it said; `seen`, what was read last.
    :ivar minutes: when the clock fired last.
    :ivar through: by agent, the newest task that was read as settled.
    """

    waiting: set[str] = attrs.field(factory=set, converter=set)
    files: set[str] = attrs.field(factory=set, converter=set)
    pages: dict[str, str] = attrs.field(factory=dict)
    known: dict[str, str] = attrs.field(factory=dict)
    seen: dict[str, str] = attrs.field(factory=dict)
    pending: int = 0
    minutes: str = ""
    through: dict[str, str] = attrs.field(factory=dict)

    def as_data(self) -> dict[str, Any]:
        """Return it for JSON."""
        found = attrs.asdict(self).items()
        return {name: sorted(value) if isinstance(value, set) else value for name, value in found}


class TriggerLedger:
    """What one daemon was sent, and what its journal says of it."""

    def __init__(self, journal: Path, tally: Tally, book: LedgerBook | None = None) -> None:
        self.book = book or LedgerBook()
        self._path = journal
        self._tally = tally
        self._lock = threading.Lock()

    # --- what is sent ---

    def accepted(self, task: str) -> None:
        """A webhook was answered with this task's id."""
        with self._lock:
            self._tally.add(triggers_accepted=1)
            if task > self.book.through.get("hooks", ""):  # it may have run already
                self.book.waiting.add(task)

    def file_made(self, name: str) -> None:
        """A file was put into the inbox."""
        with self._lock:
            self.book.files.add(name)
            self._tally.add(files_made=1)

    def page_written(self, uri: str, text: str) -> None:
        """A page is about to hold this."""
        with self._lock:
            self.book.pages[uri] = text
            self._tally.add(pages_written=1)

    # --- what has come of it ---

    def read(self) -> None:
        """Take over what is settled since the last time."""
        try:
            journal = Journal.open(self._path, readonly=True)
        except JournalError:  # it is not made yet, or a killed daemon has not been followed by the next one
            return
        with journal, self._lock:
            for agent in AGENTS:
                self._read_agent(journal, agent)
            found = {uri: journal.last_seen("watcher", uri) for uri in self.book.pages}
            self.book.seen = {uri: seen.content for uri, seen in found.items() if seen is not None}
            self.book.pending = sum(len(journal.pending(agent)) for agent in AGENTS)

    def is_ready(self, uris: Sequence[str]) -> bool:
        """Tell whether the daemon has looked at everything once: what comes now wakes its agents."""
        try:
            with Journal.open(self._path, readonly=True) as journal:
                looks = [("watcher", uri) for uri in uris] + [("inbox", "trigger:inbox")]
                return all(journal.last_seen(*look) is not None for look in looks)
        except JournalError:
            return False

    def _read_agent(self, journal: Journal, agent: str) -> None:
        through = self.book.through.get(agent, "")
        found = sorted((t for t in journal.recent(agent, READ) if t.id > through), key=lambda t: t.id)
        if through and len(found) == READ:
            self._tally.wrong(f"{agent}: more tasks than the journal keeps came between two looks at it")
        for trigger in found:
            if trigger.ended_at is None:
                break  # those behind it are begun later
            self.book.through[agent] = trigger.id
            self._settled(trigger)

    def _settled(self, trigger: Trigger) -> None:
        self._tally.add(triggers_run=1, trigger_attempts=trigger.attempts)
        if trigger.state != "done":
            self._tally.wrong(f"{trigger.agent}: the task {trigger.id} is {trigger.state}: {trigger.error}")
        self.book.waiting.discard(trigger.id)
        if trigger.agent == "inbox":
            self.book.files.difference_update(_FILE.findall(trigger.content))
        elif trigger.agent == "clock":
            self._ticked(trigger)
        elif trigger.agent == "watcher":
            self._page_seen(trigger)

    def _page_seen(self, trigger: Trigger) -> None:
        before = self.book.known.get(trigger.uri)
        if before is not None and trigger.previous != before:
            self._lose(
                1,
                f"{trigger.uri}: the task before ended with {before!r}, this one begins with {trigger.previous!r}",
            )
        self.book.known[trigger.uri] = trigger.content

    def _ticked(self, trigger: Trigger) -> None:
        due = _DUE.search(trigger.content)
        if due is None:
            self._tally.wrong(f"clock: no time in {trigger.content!r}")
            return
        now = datetime.fromisoformat(due[1])
        if self.book.minutes:
            missed = (now - datetime.fromisoformat(self.book.minutes)) // timedelta(minutes=1) - 1
            if missed > 0 and "Missed before" not in trigger.content:
                self._lose(missed, f"the clock did not fire between {self.book.minutes} and {now}")
            if missed < 0:
                self._tally.wrong(f"the clock fired twice for {now}")
        self.book.minutes = now.isoformat(" ")

    # --- the end ---

    def open_ends(self) -> list[str]:
        """What has not run yet, in words."""
        with self._lock:
            pages = [uri for uri, text in self.book.pages.items() if self.book.seen.get(uri) != text]
            tasks = [f"the task {id}" for id in sorted(self.book.waiting)]
            return tasks + [f"the file {name}" for name in sorted(self.book.files)] + pages

    @property
    def is_quiet(self) -> bool:
        """Tell whether all that was sent has run."""
        self.read()
        return not self.open_ends() and not self.book.pending

    def could_still_run(self) -> bool:
        """Tell whether waiting may help: False if all that is open are tasks that the journal does not have."""
        self.read()
        if self.book.pending or len(self.open_ends()) > len(self.book.waiting):
            return True
        try:
            with Journal.open(self._path, readonly=True) as journal:
                return any(journal.get(id) is not None for id in self.book.waiting)
        except JournalError:
            return False

    def settle(self) -> None:
        """Count what is still open as lost: nothing was sent for a while."""
        for what in self.open_ends():
            self._lose(1, f"{what} was accepted and has not run")
        if self.book.pending:
            self._tally.wrong(f"{self.book.pending} tasks still wait in {self._path}")

    def _lose(self, number: int, why: str) -> None:
        self._tally.add(triggers_lost=number)
        self._tally.wrong(f"lost: {why}")

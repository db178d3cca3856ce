"""What the journal has said is kept, is kept: processes that use it are killed at any moment."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from agentd_daemon.journal import Journal
from places import SUPPORT

pytestmark = pytest.mark.slow

KILLS = 30
WORKER = SUPPORT / "journal_worker.py"


class Promises:
    """What the killed processes have said, added up."""

    def __init__(self) -> None:
        self.number = 0
        self.accepted: dict[str, int] = {}  # id: the newest content
        self.attempts: dict[str, int] = {}
        self.settled: set[str] = set()
        self.messages = 0

    def hear(self, line: str) -> None:
        said, *words = line.split()
        if said == "accepted":
            self.number = int(words[1])
            self.accepted[words[0]] = self.number
        elif said == "begun":
            assert words[0] not in self.settled, "a settled trigger came back"
            assert int(words[1]) > self.attempts.get(words[0], 0), "a repeat did not show"
            self.attempts[words[0]] = int(words[1])
        elif said == "settled":
            self.settled.add(words[0])
        elif said == "saved":
            self.messages = max(self.messages, int(words[0]))

    def check(self, journal: Journal) -> None:
        waiting = {t.id: t for t in journal.pending("news")}
        for id, number in self.accepted.items():
            trigger = journal.get(id)
            assert trigger is not None, "an accepted trigger is lost"
            assert int(trigger.content or trigger.task) >= number
            assert trigger.attempts >= self.attempts.get(id, 0)
            if id in self.settled:
                assert trigger.state == "done"
                assert id not in waiting
            else:
                assert id in waiting or trigger.state == "done"  # it was killed before it could say so
        transcript = journal.load_transcript("news")
        assert len(transcript.messages if transcript else ()) >= self.messages
        assert journal.damaged is None


def killed_after(lines: int, path: Path, promises: Promises) -> None:
    """Run a worker, kill it when it has said so many lines, and hear all that it said."""
    command = [sys.executable, str(WORKER), str(path), str(promises.number + 1000)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        try:
            assert child.stdout.readline() == "ready\n"
            for _ in range(lines):
                promises.hear(child.stdout.readline())
        finally:
            child.kill()
        rest = child.stdout.read().splitlines(keepends=True)
        for line in rest:
            if line.endswith("\n"):
                promises.hear(line)
    assert child.returncode == -signal.SIGKILL


def test_thirty_kills_lose_nothing_accepted_and_bring_back_nothing_settled(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    dice = random.Random(seed)
    promises = Promises()
    path = tmp_path / "journal.db"
    for _ in range(KILLS):
        killed_after(dice.randrange(120), path, promises)
        with Journal.open(path) as journal:
            promises.check(journal)
    assert promises.accepted
    assert promises.settled
    with Journal.open(path) as journal:  # and all of it can be finished
        while (trigger := journal.next_trigger("news")) is not None:
            promises.hear(f"begun {trigger.id} {journal.begin(trigger.id).attempts}")
            journal.settle(trigger.id, state="done")
            promises.hear(f"settled {trigger.id}")
        assert set(journal.counts("news")) == {"done"}
        kept = {trigger.id for trigger in journal.recent("news", 10**6)}
    assert set(promises.accepted) <= kept

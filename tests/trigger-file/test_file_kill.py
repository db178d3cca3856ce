"""The real daemon, killed between a change and its turn, and files that change while there is none."""

from __future__ import annotations

import random
import time

import pytest
from agentd_daemon.journal import Journal, JournalError
from life import Home, eventually

pytestmark = pytest.mark.slow


def lines(home: Home) -> list[str]:
    with Journal.open(home.state / "journal.db", readonly=True) as journal:
        tasks = journal.recent("a", 1000)
    return [line for task in tasks for line in task.content.splitlines()[1:]]


def looked(home: Home) -> bool:
    try:
        with Journal.open(home.state / "journal.db", readonly=True) as journal:
            return journal.last_seen("a", "trigger:file") is not None
    except JournalError:
        return False


@pytest.mark.timeout(500)
def test_kills_at_any_moment_lose_no_file_and_tell_none_twice(home: Home) -> None:
    inbox = home.cwd / "inbox"
    inbox.mkdir()
    home.write(home.agent(triggers=[{"kind": "file", "options": {"path": "inbox", "debounce_s": 0.05}}]))
    dice = random.Random(seed := random.randrange(2**32))
    print("seed", seed)
    wanted = []
    for life_number in range(5):
        life = home.start()
        eventually(lambda: looked(home), life.log)
        for number in range(dice.randint(1, 20)):
            name = f"{life_number}-{number}"
            (inbox / name).touch()
            wanted.append(f'created: "{name}"')
        time.sleep(dice.random() * 0.4)  # at any moment of looks and turns
        life.process.kill()
        life.wait()
        (inbox / f"down-{life_number}").touch()
        wanted.append(f'created: "down-{life_number}"')
    life = home.start()
    eventually(lambda: set(wanted) <= set(lines(home)), life.log)
    life.becomes("a", state="idle", queued=0)
    assert life.stop() == 0
    assert sorted(lines(home)) == sorted(wanted)

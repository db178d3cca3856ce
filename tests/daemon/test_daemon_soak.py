"""The soak: 50 agents over 20 servers, with random kills of servers and of the daemon, and a provider that fails now
and then. The journal proves that no accepted trigger was lost.

    AGENTD_TEST_SOAK_S=600 AGENTD_TEST_SOAK_SEED=7 pytest tests/core/daemon/test_daemon_soak.py

The seed fixes what is done in which order, not when the processes do what. Only processes of the test's own are killed.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from agentd_daemon.journal import Journal, Trigger
from agentd_demo.replay import ReplayFault, ReplayServer
from living import HERE, Command, kill_server, starts, told, until

AGENTS = 50
SERVERS = 20
FAILING = 0.05
"""Of the requests to the model."""
FAULTS = (
    ReplayFault("status", status=429),
    ReplayFault("status", status=503),
    ReplayFault("disconnect"),
    ReplayFault("cut", after=2),
    ReplayFault("disconnect", after=2),
)
# read when the module is: the tests' fixtures take settings out of the environment
SOAK_S = float(os.environ.get("AGENTD_TEST_SOAK_S", "45"))
SEED = int(os.environ.get("AGENTD_TEST_SOAK_SEED", random.randrange(2**32)))
SETTLE_S = 240.0


@attrs.define
class World:
    """What the test has made, and what it did to it."""

    folder: Path
    dice: random.Random
    command: Command
    model: ReplayServer
    contents: dict[str, int]
    """Of each page's URI, the number that was written last."""
    daemon_kills: int = 0
    server_kills: int = 0
    accepted: set[str] = attrs.field(factory=set)

    @property
    def agents(self) -> dict[str, tuple[str, str]]:
        """The agents' names and what they watch."""
        uris = list(self.contents)
        return {
            f"agent-{n:02}": (uris[n % SERVERS], uris[(7 * n + 3) % SERVERS if 7 * n + 3 != n else n + 1])
            for n in range(AGENTS)
        }

    def log(self, number: int) -> Path:
        return self.folder / f"server-{number:02}.log"

    def write(self, uri: str) -> None:
        """Change a page, at one stroke."""
        self.contents[uri] += 1
        page = Path(uri.removeprefix("file://"))
        fresh = self.folder / "fresh"
        fresh.write_text(str(self.contents[uri]))
        fresh.replace(page)

    def kill_a_server(self) -> None:
        number = self.dice.randrange(SERVERS)
        pids = starts(self.log(number))
        self.server_kills += bool(pids) and kill_server(pids[-1], self.folder / f"server-{number:02}")

    def kill_the_daemon(self) -> None:
        self.note_accepted()
        self.command.kill()
        self.daemon_kills += 1
        self.note_accepted()
        self.command.start()

    def note_accepted(self) -> None:
        with self.command.reading() as journal:
            if journal is not None:
                self.accepted |= {t.id for name in self.agents for t in journal.pending(name)}
                self.accepted |= {t.id for name in self.agents for t in journal.recent(name, 20)}


def configuration(world: World) -> dict[str, Any]:
    servers = {
        uri: {
            "type": "stdio",
            "name": f"server-{number:02}",
            "command": sys.executable,
            "arguments": [
                *("-S", str(HERE / "files_server.py"), str(Path(uri.removeprefix("file://")).parent)),
                *("--log", str(world.log(number))),
            ],
        }
        for number, uri in enumerate(world.contents)
    }
    defaults = {
        "model": "replay",
        "base_url": world.model.base_url,
        "model_options": {"max_retries": 0},
        "history": {"max_tokens": 2000},
        "on_error": {"retries": 1000, "backoff_s": 0.1, "max_backoff_s": 1.0},
    }
    agents = [
        {"name": name, "mcp_servers": [servers[uri] for uri in uris], "subscriptions": list(uris)}
        for name, uris in world.agents.items()
    ]
    return {"defaults": defaults, "agents": agents}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    dice = random.Random(SEED)
    print("seed", SEED)
    contents = {}
    for number in range(SERVERS):
        folder = tmp_path / f"server-{number:02}"
        folder.mkdir()
        (folder / "page").write_text("0")
        contents[f"file://{folder}/page"] = 0
    faults = {n: dice.choice(FAULTS) for n in range(100_000) if dice.random() < FAILING}
    command = Command(tmp_path / "agents.yaml", tmp_path / "state", tmp_path / "daemon.log")
    with ReplayServer(["Noted, and nothing to do."], faults=faults, repeat=True) as model:
        made = World(tmp_path, dice, command, model, contents)
        command.config.write_text(json.dumps(configuration(made)))
        try:
            yield made
        finally:
            command.end()


def everybody_has_looked(world: World) -> bool:
    with world.command.reading() as journal:
        return journal is not None and all(
            journal.last_seen(name, uri) for name, uris in world.agents.items() for uri in uris
        )


def chaos(world: World) -> None:
    """Write and kill for `SOAK_S`."""
    end = time.monotonic() + SOAK_S
    next_kill = time.monotonic() + world.dice.uniform(3, 10)
    asked = 0
    while time.monotonic() < end:
        world.write(world.dice.choice(list(world.contents)))
        if world.dice.random() < 0.15:
            world.kill_a_server()
        # on a slow machine it would be killed before it has done anything, for ever
        if time.monotonic() > next_kill and len(world.model.requests) > asked:
            world.kill_the_daemon()
            asked = len(world.model.requests) + (0 if world.dice.random() < 0.2 else 20)
            next_kill = time.monotonic() + world.dice.uniform(0.5, 10)
        time.sleep(world.dice.uniform(0, 0.5))  # the pace of the changes


def all_is_done(world: World) -> bool:
    with world.command.reading() as journal:
        return (
            journal is not None
            and all(
                (seen := journal.last_seen(name, uri)) and seen.content == str(world.contents[uri])
                for name, uris in world.agents.items()
                for uri in uris
            )
            and not any(set(journal.counts(name)) - {"done"} for name in world.agents)
        )


def prove(world: World, journal: Journal) -> None:
    """See in the journal that nothing was lost, and in the model's requests that it was told."""
    done = {name: journal.recent(name, 100_000)[::-1] for name in world.agents}
    ids = {trigger.id for triggers in done.values() for trigger in triggers}
    assert world.accepted <= ids, "an accepted trigger has vanished"
    assert {trigger.state for triggers in done.values() for trigger in triggers} == {"done"}
    for name, uris in world.agents.items():
        for uri in uris:
            prove_chain([t for t in done[name] if t.uri == uri], world.contents[uri])
    prove_told(world, done)


def prove_chain(triggers: list[Trigger], newest: int) -> None:
    """Each trigger begins where the one before it ended: no content that was read was lost between them."""
    contents = ["0", *(trigger.content for trigger in triggers)]
    assert [trigger.previous for trigger in triggers] == contents[:-1]
    assert contents[-1] == str(newest)
    numbers = list(map(int, contents))
    assert numbers == sorted(set(numbers)), "an older content came after a newer one"


def prove_told(world: World, done: dict[str, list[Trigger]]) -> None:
    asked: dict[str, int] = {}
    for request in world.model.requests:
        tasks = told(request)
        if tasks and request.status == 200:
            id = tasks[-1].rsplit("[task ", 1)[1].split("]", 1)[0]
            asked[id] = asked.get(id, 0) + 1
    for triggers in done.values():
        for trigger in triggers:
            assert 1 <= asked[trigger.id] <= trigger.attempts


@pytest.mark.soak
@pytest.mark.timeout(SOAK_S + 3 * SETTLE_S)
def test_no_accepted_trigger_is_lost_whatever_is_killed(world: World) -> None:
    world.command.start()
    until(lambda: everybody_has_looked(world), "all first looks", SETTLE_S)
    chaos(world)
    for uri in world.contents:
        world.write(uri)
    world.note_accepted()
    until(lambda: all_is_done(world), f"all to be done: {world.command.tail()}", SETTLE_S)
    with world.command.reading() as journal:
        assert journal is not None
        prove(world, journal)
        attempts = [t.attempts for name in world.agents for t in journal.recent(name, 100_000)]
    peak_mib = world.command.peak_mib()
    world.command.end()
    print(
        f"{SOAK_S:g} s: {sum(world.contents.values())} changes, {len(attempts)} triggers, {sum(attempts)} attempts, "
        f"{len(world.model.requests)} requests, {world.server_kills} servers and {world.daemon_kills} daemons killed, "
        f"{peak_mib} MiB at most"
    )
    assert world.server_kills
    assert world.daemon_kills
    assert not list(world.command.state.glob("journal.db.*damaged*"))
    assert "Traceback" not in world.command.log.read_text(encoding="utf-8"), (
        "something failed that was not expected"
    )
    until(lambda: not survivors(world.folder), "the end of all servers")


def survivors(folder: Path) -> list[str]:
    """The commands of processes that serve something in the folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if b"files_server.py" in command and os.fsencode(folder) in command:
                found.append(command.decode(errors="replace"))
    return found

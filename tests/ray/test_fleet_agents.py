"""Agents of a YAML file as sessions of a fleet: what was accepted is done once, whoever is lost meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from agentd.errors import ConfigError
from agentd.turn.transcript import Transcript
from agentd_daemon.config.values import AgentConfig, TriggerConfig
from agentd_daemon.journal import Journal, Trigger
from agentd_demo.replay import ReplayServer
from agentd_ray import FleetError
from agentd_ray.agent_place import FleetPlace
from conftest import host_pid, run
from fleet_models import bash
from living import Living, agent, files_server, living, until
from places import SUPPORT
from ray.cluster_utils import Cluster

pytestmark = pytest.mark.timeout(240)  # starts of daemons and hosts, each some seconds on a loaded machine
MakePlace = Callable[..., FleetPlace]


@pytest.fixture
def place(cluster: Cluster, store: str) -> MakePlace:
    """Makes fleets on the cluster, without a sandbox."""

    def make(**options: Any) -> FleetPlace:
        given = {"store": store, "executor": "subprocess", "silent_s": 30, **options}
        return FleetPlace(cluster.address, **given)

    return make


@pytest.fixture
def replay() -> Iterator[Callable[..., ReplayServer]]:
    """Starts models on loopback that say one text after the other."""
    started: list[ReplayServer] = []

    def start(*texts: str) -> ReplayServer:
        started.append(ReplayServer(list(texts), order="request"))
        started[-1].start()
        return started[-1]

    yield start
    for server in started:
        server.close()


def coder(model: ReplayServer, name: str, **keys: Any) -> AgentConfig:
    return agent(model, name=name, mode="ptc", **keys)


async def node_of(seen: Living, name: str) -> str:
    return await seen.until(lambda: seen.status(name).node)


def test_agents_wake_on_a_fleet_and_a_new_daemon_finds_them(
    place: MakePlace, replay: Any, tmp_path: Path
) -> None:
    inbox, served = tmp_path / "inbox", tmp_path / "served"
    inbox.mkdir()
    served.mkdir()
    log = tmp_path / "server.log"
    watcher = replay(bash("echo 42 > kept; pwd"), "It is new.", bash("cat kept"), "Still there.")
    caller = replay("I can look.")
    trigger = TriggerConfig(kind="file", options={"path": str(inbox), "globs": ["*.csv"]}, prompt="Look.")
    agents = (
        coder(watcher, "watcher", triggers=(trigger,)),
        agent(caller, files_server(served, "--log", str(log)), name="caller", api_key=None),
    )

    async def work() -> None:
        fleet = place()
        async with living(tmp_path / "state", *agents, place=fleet) as seen:
            await seen.until(lambda: seen.journal.last_seen("watcher", "trigger:file"))
            (inbox / "new.csv").write_text("1")
            await seen.daemon.submit("caller", "What can you do?")
            (done,) = await seen.settled(1, "watcher")
            assert (done.state, done.result, done.attempts) == ("done", "It is new.", 1)
            assert "agentd-fleet-" in str(seen.daemon.history("watcher")[2].content), "it worked on a host"
            (said,) = await seen.settled(1, "caller")
            assert said.result == "I can look."

            nodes = {await node_of(seen, name) for name in ("watcher", "caller")}
            assert nodes == {host.node for host in (await fleet.fleet.status()).hosts if host.sessions}
            rows = [row for host in (await fleet.fleet.status()).hosts for row in host.sessions]
            assert {row.conversation for row in rows} == {"watcher", "caller"}, "as `agentd fleet` shows them"
            assert [spec.name for spec in await seen.daemon.tools("caller")] == ["look"]
            pid = int(next(line.split()[1] for line in log.read_text().splitlines() if "start" in line))
            above = {parent.pid for parent in psutil.Process(pid).parents()}
            hosts = {await host_pid(fleet.fleet, node) for node in nodes}
            assert above & hosts, "its server is the host's"

            kept = await seen.daemon.snapshot("watcher", "before")
            await seen.daemon.submit("watcher", "And now?")
            assert (await seen.settled(2, "watcher"))[1].result == "Still there."
            assert await seen.daemon.rewind("watcher", "before") == kept
            assert len(seen.daemon.history("watcher")) == 4

        async with living(tmp_path / "other state", agents[0], place=place()) as seen:
            await node_of(seen, "watcher")
            assert [m.role for m in seen.daemon.history("watcher")] == ["task", "answer", "results", "answer"]

    run(work())


def test_a_host_that_dies_in_a_turn_costs_the_task_no_second_attempt(
    place: MakePlace, replay: Any, tmp_path: Path
) -> None:
    marker = tmp_path / "marker"
    block = bash(f"[ -e {marker} ] || (touch {marker}; sleep 60); echo done")
    model = replay(block, block, "Paid.")

    async def work() -> None:
        fleet = place()
        async with living(tmp_path / "state", coder(model, "payer"), place=fleet) as seen:
            await seen.daemon.submit("payer", "Pay.")
            await seen.until(marker.exists)
            os.kill(await host_pid(fleet.fleet, seen.status("payer").node), signal.SIGKILL)
            (done,) = await seen.settled(1, "payer")
            assert (done.state, done.result, done.attempts) == ("done", "Paid.", 1)
            messages = seen.daemon.history("payer")
            assert [m.role for m in messages] == ["task", "answer", "results", "answer"]
            assert "this task was begun before" in messages[0].content
            moved = [e for _, e in seen.events if e.type == "source_log" and e.source == "fleet"]
            assert len(moved) == 1, "whoever watches is told"

    run(work())


def test_a_question_of_a_lost_host_is_the_same_question_on_the_next_one(
    place: MakePlace, replay: Any, tmp_path: Path
) -> None:
    create = "```kept.txt:create\nyes\n```\n"
    model = replay(create, create, bash("cat kept.txt"), "Kept.", create, "Again.")
    keys: dict[str, Any] = {"policy": {"rules": [{"kind": "create", "verdict": "ask"}], "default": "allow"}}

    async def work() -> None:
        fleet = place()
        async with living(tmp_path / "state", coder(model, "keeper", **keys), place=fleet) as seen:
            await seen.daemon.submit("keeper", "Keep it.")
            (first,) = await seen.until(seen.daemon.questions)
            os.kill(await host_pid(fleet.fleet, seen.status("keeper").node), signal.SIGKILL)
            await seen.asked(model, 2)
            (asked,) = await seen.until(lambda: [q for q in seen.daemon.questions() if q.state == "open"])
            assert (asked.id, asked.name) == (first.id, "kept.txt")
            seen.daemon.answer(asked.id, allowed=True, scope="always")
            (done,) = await seen.settled(1, "keeper")
            assert (done.state, done.result) == ("done", "Kept.")
            assert "yes" in seen.daemon.history("keeper")[-2].content
            await seen.daemon.submit("keeper", "And again.")
            assert (await seen.settled(2, "keeper"))[1].result == "Again.", "it holds always, on any machine"
            assert seen.daemon.questions() == []

    run(work())


def test_a_daemon_killed_at_three_moments_does_a_task_once_and_tells_what_it_did_twice(
    cluster: Cluster, store: str, replay: Any, tmp_path: Path
) -> None:
    """Between the trigger and its turn, in the turn, and between the run's end and the journal's word."""
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    (inbox / "bill.csv").write_text("1")
    effects = tmp_path / "effects"
    block = bash(f"echo paid | tee -a {effects}; [ $(wc -l < {effects}) = 2 ] || sleep 60")
    model = replay(block, block, "Paid.")
    payer = {
        "name": "payer",
        "model": "replay",
        "base_url": model.base_url,
        "mode": "ptc",
        "executor": "subprocess",
        "triggers": [{"kind": "file", "options": {"path": str(inbox)}}],
    }
    config = tmp_path / "agents.yaml"
    config.write_text(json.dumps({"agents": [payer], "store": store}))
    command = [sys.executable, str(SUPPORT / "killed_agents.py"), str(tmp_path), "daemon", str(config)]
    command += ["--fleet", cluster.address, "--state-dir", str(tmp_path / "state")]

    def journalled() -> tuple[Trigger, Transcript | None] | None:
        with Journal.open(tmp_path / "state" / "journal.db", readonly=True) as journal:
            (trigger,) = journal.recent("payer")
            return None if trigger.ended_at is None else (trigger, journal.load_transcript("payer"))

    def go() -> subprocess.CompletedProcess[str]:
        once = [*command, "--once"]
        return subprocess.run(once, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100)

    for moment, asked, done in (("accepted", 0, ""), ("working", 1, "paid\n"), ("ended", 3, "paid\n" * 2)):
        ended = go()
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        assert (tmp_path / moment).exists()
        assert len(model.requests) == asked
        assert (effects.read_text() if effects.exists() else "") == done
    with subprocess.Popen(
        [*command, "--no-repl"], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as last:
        try:
            settled = until(journalled, "the journal's word")
            last.terminate()
            log = last.communicate(timeout=100)[1]
        finally:
            last.kill()
    assert last.returncode == 0, log
    assert "stopping; a second signal ends it at once" in log, "Ray has not taken the signal"
    assert len(model.requests) == 3, "the answer was in the store: nothing was asked again"
    assert effects.read_text() == "paid\n" * 2
    trigger, said = settled
    assert (trigger.state, trigger.result, trigger.attempts) == ("done", "Paid.", 2)
    assert said is not None
    task = said.messages[0].content
    assert f"This is attempt 2 at the task {trigger.id}" in task, "the turn that was done twice was told so"


def test_an_agent_whose_store_is_not_reached_says_so_and_is_tried_again(
    place: MakePlace, replay: Any, tmp_path: Path
) -> None:
    blocked = tmp_path / "blocked"
    blocked.touch()
    model = replay("Here.")

    async def work() -> None:
        fleet = place(store=f"file://{blocked}/store")
        async with living(tmp_path / "state", coder(model, "news"), place=fleet) as seen:
            await seen.daemon.submit("news", "Are you there?")
            error = await seen.until(lambda: seen.status("news").last_error)
            assert "blocked/store' could not" in error
            assert seen.status("news").state == "retrying"
            blocked.unlink()
            (done,) = await seen.settled(1, "news")
            assert done.result == "Here."

    run(work())


def test_a_fleet_that_cannot_be_opened_is_an_error_of_the_daemon(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, store: str, replay: Any
) -> None:
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)

    async def work(address: str) -> None:
        place = FleetPlace(address, store=store)
        async with living(tmp_path / "state", coder(replay(), "news"), place=place):
            raise AssertionError("it was opened")

    for address, error, says in (
        ("127.0.0.1:9", FleetError, r"the cluster at '127\.0\.0\.1:9' is not reached.*ray start --head"),
        ("ray://head:10001", ConfigError, "address must be 'auto', 'HOST:PORT'"),
    ):
        with pytest.RaisesGroup(pytest.RaisesExc(error, match=says), allow_unwrapped=True):
            run(work(address))

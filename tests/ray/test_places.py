"""Where sessions go: places, the queue, sleep, drain, resources."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from agentd.errors import ConfigError, SessionBusyError
from agentd_ray import FleetError, FleetFullError
from agentd_ray.connecting import RayNode
from agentd_ray.placing import HostPlaces
from agentd_ray.wire import HostBeat
from agentd_store import StoreError
from conftest import OPTIONS, OpenFleet, run
from fleet_models import StepModel, bash
from ray.cluster_utils import Cluster


def test_who_finds_no_place_waits_until_there_is_one(open_fleet: OpenFleet) -> None:
    async def work() -> None:
        async with open_fleet(per_host=1, max_waiting=1) as fleet:
            first, second = [await fleet.session(StepModel()) for _ in range(2)]
            third = asyncio.ensure_future(fleet.session(StepModel()))
            while not fleet.places.waiting:
                await asyncio.sleep(0.01)
            with pytest.raises(FleetFullError, match=r"1 of 1.*per_host"):
                await fleet.session(StepModel())
            node = second.node
            await second.aclose()
            assert (await third).node == node
            assert first.node != node

    run(work())


def test_an_idle_session_sleeps_in_the_store_and_wakes_as_it_was(open_fleet: OpenFleet) -> None:
    async def work() -> None:
        async with open_fleet(per_host=1, sleep_after=0.3) as fleet:
            session = await fleet.session(
                StepModel(bash("echo more >> notes; export X=1$X; cat notes; echo $X"))
            )
            await session.ask("One.")
            while not session.is_asleep:
                await asyncio.sleep(0.02)
            assert not any(host.sessions for host in fleet.places.hosts.values())
            events = [event async for event in session.run("Two.")]
            (block,) = [event for event in events if event.type == "code_execution"]
            assert block.output == "more\nmore\n11\n"
            assert not session.is_asleep

    run(work())


def test_idle_ones_make_room_for_those_that_wait(open_fleet: OpenFleet) -> None:
    async def work() -> None:
        async with open_fleet(per_host=1, sleep_after=3600) as fleet:
            sessions = [
                await fleet.session(StepModel(bash("echo hi")), conversation_id=f"c{n}") for n in range(6)
            ]
            assert sum(not session.is_asleep for session in sessions) <= 2
            ends = await asyncio.gather(*(session.ask("Go.") for session in sessions))
            assert [end.text for end in ends] == ["done"] * 6

    run(work())


def test_a_drained_node_is_left_at_a_turns_border(open_fleet: OpenFleet, tmp_path: Path) -> None:
    go = tmp_path / "go"

    async def work() -> None:
        async with open_fleet() as fleet:
            model = StepModel(
                bash(
                    f"echo begun; export X=7; until [ -e {go} ]; do sleep 0.02; done; date >> {tmp_path}/first"
                ),
                bash("echo second $X"),
            )
            session = await fleet.session(model)
            idle = await fleet.session(StepModel())
            other = await fleet.session(StepModel())
            assert {session.node, idle.node} == set(fleet.places.hosts), "one on each"
            node, events = session.node, []
            draining = None
            async for event in session.run("Go."):
                events.append(event)
                if event.type == "code_output" and draining is None:
                    draining = asyncio.ensure_future(fleet.drain(node))
                    while not fleet.places.hosts[node].is_draining:
                        await asyncio.sleep(0.01)
                    await asyncio.sleep(0.3)  # it was told to leave; the turn goes on
                    go.touch()
            assert draining is not None
            await draining
            assert session.node not in ("", node)
            outputs = [event.output for event in events if event.type == "code_execution"]
            assert outputs == ["begun\n", "second 7\n"]
            assert len((tmp_path / "first").read_text().splitlines()) == 1, "no turn ran twice"
            assert (events[-1].text, events[-1].turns, session.moves) == ("done", 3, 1)
            assert not fleet.places.hosts[node].sessions
            assert (await other.ask("Still there?")).text == "done"

    run(work())


def test_resources_of_nodes_are_counted(open_fleet: OpenFleet) -> None:
    async def work() -> None:
        async with open_fleet(max_waiting=0) as fleet:
            with pytest.raises(FleetError, match="no host has what"):
                await fleet.session(StepModel(), needs={"GPU": 1})
            one, two = [await fleet.session(StepModel(), needs={"CPU": 1}) for _ in range(2)]
            assert one.node != two.node
            with pytest.raises(FleetFullError):
                await fleet.session(StepModel(), needs={"CPU": 1})
            await one.aclose()
            await fleet.session(StepModel(), needs={"CPU": 1})

    run(work())


def test_checkpoints_rewind_fork_and_the_transcript(open_fleet: OpenFleet) -> None:
    async def work() -> None:
        async with open_fleet() as fleet:
            session = await fleet.session(StepModel(bash("date >> log; wc -l < log")), conversation_id="c1")
            await session.ask("One.")
            kept = await session.checkpoint("after-one")
            assert [c.id for c in await session.checkpoints()][-1] == kept.id
            await session.ask("Two.")
            fork = await session.fork("after-one", conversation_id="c2")
            assert (await session.rewind("after-one")).id == kept.id
            for one in (session, fork):
                events = [event async for event in one.run("Two again.")]
                assert [e.output.strip() for e in events if e.type == "code_execution"] == ["2"]
                assert [m.content for m in (await one.transcript()).messages if m.role == "task"] == [
                    "One.",
                    "Two again.",
                ]
            assert await session.forget_last() == "Two again."
            running = session.run("Three.")
            await anext(running)
            with pytest.raises(SessionBusyError):
                await session.checkpoint()
            await running.aclose()
            with pytest.raises(ConfigError, match="open in this fleet"):
                await fleet.session(StepModel(), conversation_id="c1")

    run(work())


def test_leaving_the_iteration_ends_the_run_and_its_code(open_fleet: OpenFleet, tmp_path: Path) -> None:
    async def work() -> None:
        async with open_fleet() as fleet:
            session = await fleet.session(
                StepModel(bash(f"[ -e {tmp_path}/pid ] || (echo $$ > {tmp_path}/pid; echo up; sleep 60)"))
            )
            async with session.run("Go.") as events:
                async for event in events:
                    if event.type == "code_output":
                        break
            pid = int((tmp_path / "pid").read_text())
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)
            assert (await session.ask("Again.")).text == "done"

    run(work())


def test_an_answer_has_the_form_that_was_asked_for(open_fleet: OpenFleet) -> None:
    async def work() -> None:
        async with open_fleet() as fleet:
            session = await fleet.session(StepModel(done='{"count": 3}'))
            assert await session.ask("Count.", output=dict[str, int]) == {"count": 3}

    run(work())


def test_closing_a_session_ends_its_run_and_closing_the_fleet_ends_all(open_fleet: OpenFleet) -> None:
    async def work() -> None:
        async with open_fleet() as fleet:
            session, other = [await fleet.session(StepModel(bash("echo up; sleep 60"))) for _ in range(2)]
            running = session.run("Go.")
            async for event in running:
                if event.type == "code_output":
                    break
            waiting = asyncio.ensure_future(session.ask("Then that."))
            await asyncio.sleep(0)
            await session.aclose()
            assert [event async for event in running if event.type == "run_end"] == []
            with pytest.raises(ConfigError, match="is closed"):
                await waiting
            asking = asyncio.ensure_future(other.ask("Go."))
            while not other.is_busy:
                await asyncio.sleep(0.01)
        with pytest.raises(ConfigError, match="closed"):
            await asking

    run(work())


def test_what_was_taken_back_stays_so_on_another_host(open_fleet: OpenFleet) -> None:
    """It goes on from the newest checkpoint: so there is one after each step back, and after a run that was left."""

    async def work() -> None:
        async with open_fleet() as fleet:
            session = await fleet.session(StepModel(bash("date >> log; wc -l < log")))
            await session.ask("One.")
            await session.checkpoint("one")
            await session.ask("Two.")
            await session.rewind("one")
            await session.sleep()
            events = [event async for event in session.run("Two again.")]
            assert [e.output.strip() for e in events if e.type == "code_execution"] == ["2"]
            async with session.run("Three.") as running:
                await anext(running)
            await session.sleep()
            tasks = [m.content for m in (await session.transcript()).messages if m.role == "task"]
            assert tasks == ["One.", "Two again.", "Three."]

    run(work())


def test_a_node_that_ray_drains_is_left(open_fleet: OpenFleet, cluster: Cluster) -> None:
    third = cluster.add_node(num_cpus=1, **OPTIONS)

    async def work() -> None:
        async with open_fleet() as fleet:
            sessions = [await fleet.session(StepModel(bash("echo hi"))) for _ in range(3)]
            (leaving,) = [session for session in sessions if session.node == third.node_id]
            drain = ["drain-node", "--address", cluster.address, "--node-id", third.node_id]
            told = ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot"]
            ray = [
                sys.executable,
                "-m",
                "ray.scripts.scripts",
                *drain,
                *told,
                "--deadline-remaining-seconds",
                "300",
            ]
            done = await asyncio.create_subprocess_exec(*ray, stdin=subprocess.DEVNULL)
            assert await done.wait() == 0
            while not leaving.is_asleep:
                await asyncio.sleep(0.02)
            assert (await leaving.ask("Still there?")).text == "done"
            assert leaving.node not in ("", third.node_id)

    try:
        run(work())
    finally:
        cluster.remove_node(third, allow_graceful=False)


def test_a_session_that_was_given_up_or_could_not_be_closed_can_be_opened_again(
    open_fleet: OpenFleet, store: str
) -> None:
    log = Path(store.removeprefix("file://")) / "conversations" / "c1"

    async def work() -> None:
        async with open_fleet(hosts=1) as fleet:
            (host,) = fleet.places.hosts.values()
            opening = asyncio.ensure_future(fleet.session(StepModel(done="old"), conversation_id="c1"))
            while not host._calls:  # its host is opening it
                await asyncio.sleep(0)
            opening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await opening
            session = await fleet.session(StepModel(done="new"), conversation_id="c1")
            assert (await session.ask("Who are you?")).text == "new"
            log.rename(f"{log}-away")
            log.touch()  # nothing can be written there
            with pytest.raises(StoreError, match="could not create"):
                await session.aclose()
            log.unlink()
            log.with_name("c1-away").rename(log)
            session = await fleet.session(StepModel(), conversation_id="c1")
            assert len((await session.transcript()).messages) == 2

    run(work())


def test_a_fleet_that_is_closed_ends_runs_in_order_and_keeps_what_they_did(
    open_fleet: OpenFleet, tmp_path: Path
) -> None:
    async def work() -> None:
        async with open_fleet(hosts=1) as fleet:
            asking = []
            for n in range(6):
                model = StepModel(bash(f"touch {tmp_path}/{n}; sleep 60"))
                session = await fleet.session(model, conversation_id=f"c{n}")
                asking.append(asyncio.ensure_future(session.ask("Work.")))
            while not all((tmp_path / str(n)).exists() for n in range(6)):
                await asyncio.sleep(0.02)
        ended = await asyncio.gather(*asking, return_exceptions=True)
        assert {type(error) for error in ended} <= {ConfigError, FleetError}, "nobody has taken them over"
        assert all("closed" in str(error) for error in ended)
        async with open_fleet(hosts=1) as fleet:
            session = await fleet.session(StepModel(), conversation_id="c0")
            said = (await session.transcript()).messages
            assert [m.role for m in said] == ["task", "answer", "results"]
            assert "stopped before its end" in said[-1].content

    run(work())


class CountedHost:
    """A host that counts how often it is looked at."""

    def __init__(self) -> None:
        self.looks = 0
        self.is_draining, self.silent_s = False, 0.0
        self.sessions: set[str] = set()
        self.used: dict[str, float] = {}
        self.beat = HostBeat(sessions=0, running=0, free_mib=1024)
        self.node = RayNode(id="n", address="", name="", resources={})

    @property
    def lost(self) -> None:
        self.looks += 1


def test_thousands_that_wait_are_not_gone_through_for_each_other() -> None:
    host, count = CountedHost(), 2_000
    asked: list[int] = []
    places = HostPlaces(per_host=100, max_waiting=count, min_free_mib=0, make_room=asked.append)
    places.hosts["n"] = host  # type: ignore[assignment]

    async def work() -> None:
        taking = [asyncio.ensure_future(places.take(f"c{n}", {})) for n in range(count)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert (places.waiting, len(asked)) == (count - 100, 1), "those that come together ask for room once"
        while places.waiting:
            places.release(host, host.sessions.copy().pop(), {})  # type: ignore[arg-type]
        await asyncio.gather(*taking)

    run(work())
    assert host.looks < 10 * count

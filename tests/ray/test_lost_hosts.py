"""Nothing is lost with a host: its sessions go on elsewhere from their last turn, and everybody is told."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from agentd import Budgets, tool
from agentd.events import RunEnd
from agentd_ray.hosted import HostedSession
from agentd_ray.run_ends import RunEnds
from agentd_ray.wire import RunDone
from agentd_store import LeaseLostError
from agentd_store.holder import HolderGone, take_as_gone
from agentd_store.opened import open_store
from conftest import OPTIONS, OpenFleet, host_pid, run
from fleet_models import StepModel, bash
from ray.cluster_utils import Cluster


def test_a_killed_host_loses_no_session_and_the_turn_is_done_again(
    open_fleet: OpenFleet, tmp_path: Path
) -> None:
    seen = tmp_path / "seen"

    async def work() -> None:
        async with open_fleet() as fleet:
            model = StepModel(
                bash("echo one > one.txt; export KEPT=yes"),
                bash(f"echo $KEPT >> {seen}; cat one.txt; [ $(wc -l < {seen}) = 1 ] && sleep 60; true"),
            )
            session = await fleet.session(model, conversation_id="c1")
            node, events = session.node, []
            async for event in session.run("Work."):
                events.append(event)
                if event.type == "code_output" and event.text == "one\n" and session.moves == 0:
                    os.kill(await host_pid(fleet, node), signal.SIGKILL)
            end = events[-1]
            assert isinstance(end, RunEnd)
            assert (end.stop_reason, end.text, end.turns, end.usage.requests) == ("answer", "done", 3, 3)
            (told,) = [event for event in events if event.type == "source_log" and event.source == "fleet"]
            assert "done again" in told.text
            assert [e.type for e in events].count("run_start") == 1
            assert seen.read_text() == "yes\nyes\n", "the shell is what it was, and the turn ran twice, told"
            transcript = await session.transcript()
            assert [m.role for m in transcript.messages] == [
                "task",
                "answer",
                "results",
                "task",
                "answer",
                "results",
                "answer",
            ]
            assert "may have happened" in transcript.messages[3].content
            ids = [event.id for event in events if event.type == "code_start"]
            assert len(set(ids)) == len(ids) == 3
            assert fleet.counts["hosts_lost"] == 1

    run(work())


def test_a_task_that_was_lost_in_its_first_turn_is_given_again(open_fleet: OpenFleet, tmp_path: Path) -> None:
    marker = tmp_path / "marker"

    async def work() -> None:
        async with open_fleet() as fleet:
            model = StepModel(bash(f"[ -e {marker} ] || (touch {marker}; sleep 60)"))
            session = await fleet.session(model)
            asking = asyncio.ensure_future(session.ask("Work."))
            while not marker.exists():
                await asyncio.sleep(0.02)
            os.kill(await host_pid(fleet, session.node), signal.SIGKILL)
            end = await asking
            assert (end.text, session.moves) == ("done", 1)
            task = (await session.transcript()).messages[0].content
            assert task.startswith("Work.\n\n[note: this task was begun before")

    run(work())


def test_an_idle_session_goes_on_after_its_host_was_lost(open_fleet: OpenFleet) -> None:
    async def work() -> None:
        async with open_fleet() as fleet:
            session = await fleet.session(StepModel(bash("date >> dates; wc -l < dates")))
            await session.ask("One.")
            pid = await host_pid(fleet, session.node)
            os.kill(pid, signal.SIGKILL)
            events = [event async for event in session.run("Two.")]
            (block,) = [event for event in events if event.type == "code_execution"]
            assert block.output.strip() == "2"

    run(work())


def test_a_node_that_dies_loses_nothing(open_fleet: OpenFleet, cluster: Cluster, tmp_path: Path) -> None:
    """Ray itself takes its time to say that a node is dead; the host's silence is heard before."""
    third = cluster.add_node(num_cpus=1, **OPTIONS)

    async def work() -> None:
        async with open_fleet(silent_s=8) as fleet:
            sessions = [
                await fleet.session(
                    StepModel(bash(f"date >> {tmp_path}/{n}; sleep 1"), bash(f"echo {n} >> a; cat a"))
                )
                for n in range(6)
            ]
            assert len({session.node for session in sessions}) == 3
            mine = [session for session in sessions if session.node == third.node_id]
            asking = asyncio.gather(*(session.ask("Work.") for session in sessions))
            while not all((tmp_path / str(n)).exists() for n in range(6)):
                await asyncio.sleep(0.02)
            began = time.monotonic()
            os.kill(third.all_processes["raylet"][0].process.pid, signal.SIGKILL)
            while not all(session.node not in ("", third.node_id) for session in mine):
                await asyncio.sleep(0.02)
            back_s = time.monotonic() - began
            assert [end.text for end in await asking] == ["done"] * 6
            assert {session.moves for session in mine} == {1}
            assert back_s < 60, "Ray's own word would come later, and not end the host"

    try:
        run(work())
    finally:
        cluster.remove_node(third, allow_graceful=False)


def test_a_host_that_is_cut_off_and_comes_back_ends_its_turn_and_keeps_nothing(
    open_fleet: OpenFleet, tmp_path: Path
) -> None:
    """The process is stopped, as in a cut network nobody hears of it; then it goes on, and finds itself fenced."""

    @tool(idempotent=False)
    def pay(who: str) -> str:
        """Pay."""
        with open(tmp_path / "ledger", "a") as file:
            file.write(f"{who}\n")
        return "paid"

    code = (
        f"import time\nopen({str(tmp_path / 'begun')!r}, 'a').write('x')\nfor _ in range(100):\n    time.sleep(0.05)\n"
        "from lib.tools import pay\nprint(pay('code'))"
    )

    async def work() -> None:
        async with open_fleet(silent_s=2, lease_s=1) as fleet:
            session = await fleet.session(StepModel(f"```python:execute\n{code}\n```\n"), tools=[pay])
            node, pid = session.node, await host_pid(fleet, session.node)
            fleet._kill_lost = False  # it cannot be reached
            asking = asyncio.ensure_future(session.ask("Pay."))
            while not (tmp_path / "begun").exists():
                await asyncio.sleep(0.02)
            os.kill(pid, signal.SIGSTOP)
            try:
                while session.node in ("", node):
                    await asyncio.sleep(0.02)
            finally:
                os.kill(pid, signal.SIGCONT)
            assert (await asking).text == "done"
            assert session.moves == 1
            assert (tmp_path / "ledger").read_text() == "code\n", "one of the two has paid"
            assert (tmp_path / "begun").read_text() == "xx"
            messages = (await session.transcript()).messages
            assert [m.role for m in messages] == ["task", "answer", "results", "answer"]
            os.kill(pid, signal.SIGKILL)

    run(work())


def test_a_host_that_was_stopped_behind_its_last_turn_does_not_undo_the_end_of_a_later_run(
    store: str, tmp_path: Path
) -> None:
    async def work() -> None:
        ends = RunEnds(lambda: open_store(store), "c1")
        opened = []
        for lease_s in (30.0, 31.0):  # each has a holder of its own, as two hosts have
            options = {"url": store, "conversation": "c1", "lease_s": lease_s}
            session = HostedSession(
                StepModel(),
                executor="subprocess",
                cwd=tmp_path / f"{lease_s:g}",
                snapshots=("store", options),
            )
            session.ends = ends
            opened.append(await session.open())
            take_as_gone(HolderGone(session.report().holder))  # as a fleet does when it loses a host
        stopped, now = opened
        await now.keep_end("second", RunEnd(text="later"))
        stopped._timeline.snapshots._holder.lapses += 1  # it goes on, and could not say that it lives
        await stopped.keep_end("first", RunEnd(text="earlier"))
        kept = await now.ended("second")
        assert kept is not None
        assert kept.text == "later"
        for session in opened:
            with suppress(LeaseLostError):
                await session.aclose()

    run(work())


def test_a_typed_answer_that_was_kept_is_returned_and_not_asked_for_again(
    open_fleet: OpenFleet, tmp_path: Path
) -> None:
    """The host is lost between the checkpoint of the last turn and the word of its end."""
    asked = tmp_path / "asked"

    def answer(_: object) -> str:
        with open(asked, "a") as file:
            file.write("x")
        return '{"files": 3}'

    async def work() -> None:
        async with open_fleet() as fleet:
            for told in (False, True):
                asked.write_text("")
                session = await fleet.session(StepModel(answer))
                host = fleet.places.hosts[session.node]
                kill = partial(os.kill, await host_pid(fleet, session.node), signal.SIGKILL)
                take = host._take

                def lost(item: object, kill: Any = kill, take: Any = take) -> None:
                    kill() if isinstance(item, RunDone) else take(item)

                host._take = lost
                if told:
                    events = [event async for event in session.run("How many?", output=dict[str, int])]
                    assert (events[-1].type, events[-1].text) == ("run_end", '{"files": 3}')
                else:
                    assert await session.ask("How many?", output=dict[str, int]) == {"files": 3}
                assert (asked.read_text(), session.moves) == ("x", 1)

    run(work())


def test_a_run_that_goes_on_elsewhere_has_what_its_budgets_had_left(
    open_fleet: OpenFleet, tmp_path: Path
) -> None:
    begun = tmp_path / "begun"

    async def work() -> None:
        async with open_fleet() as fleet:
            steps = [bash("true"), bash(f"[ -e {begun} ] || (touch {begun}; sleep 60)"), *[bash("true")] * 3]
            session = await fleet.session(StepModel(*steps), budgets=Budgets(max_turns=3))
            asking = asyncio.ensure_future(session.ask("Work."))
            while not begun.exists():
                await asyncio.sleep(0.02)
            os.kill(await host_pid(fleet, session.node), signal.SIGKILL)
            end = await asking
            assert (end.stop_reason, end.turns, session.moves) == ("max_turns", 3, 1)

    run(work())

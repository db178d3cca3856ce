"""A fleet: sessions on hosts have `Session`'s methods, and end as they do."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import psutil
import pytest
from agentd.errors import ConfigError
from agentd.events import RunEnd
from agentd_ray.priority import have_children_give_way
from conftest import OpenFleet, host_pid, run
from fleet_models import StepModel, bash


def test_a_session_answers_with_the_events_of_a_session(open_fleet: OpenFleet) -> None:
    async def work() -> None:
        async with open_fleet() as fleet:
            session = await fleet.session(
                StepModel(bash("echo hello; pwd > where.txt")), conversation_id="c1"
            )
            events = [event async for event in session.run("Say hello.")]
            types = [event.type for event in events]
            assert types[0] == "run_start"
            assert types[-1] == "run_end"
            assert "code_output" in types
            (block,) = [event for event in events if event.type == "code_execution"]
            assert (block.status, block.output) == ("completed", "hello\n")
            assert (events[-1].stop_reason, events[-1].text, events[-1].turns) == ("answer", "done", 2)
            end = await session.ask("Again.")
            assert isinstance(end, RunEnd)
            assert session.usage.requests == 4
            assert len(await session.checkpoints()) == 4
            await session.aclose()
            with pytest.raises(ConfigError, match="is closed"):
                session.run("Once more.")

    run(work())


def test_sessions_are_spread_over_the_nodes(open_fleet: OpenFleet) -> None:
    async def work() -> None:
        async with open_fleet() as fleet:
            sessions = [await fleet.session(StepModel()) for _ in range(4)]
            nodes: dict[str, Any] = {}
            for session in sessions:
                nodes[session.node] = nodes.get(session.node, 0) + 1
            assert sorted(nodes.values()) == [2, 2]

    run(work())


SERVER = """
import subprocess, sys
below = subprocess.Popen(["sleep", "600"])
for line in sys.stdin:
    pass
below.kill()
"""


def test_the_code_of_sessions_gives_way_to_its_host_from_its_first_line_on(open_fleet: OpenFleet) -> None:
    """Each block is the first one of its session, some of them in forks of a server that the ones before have begun."""

    async def work() -> None:
        async with open_fleet(hosts=1) as fleet:
            (node,) = fleet.places.hosts
            host = os.getpriority(os.PRIO_PROCESS, await host_pid(fleet, node))
            sessions = [await fleet.session(StepModel(bash("nice"))) for _ in range(4)]
            told = [event for session in sessions async for event in session.run("How nice?")]
            blocks = [event.output for event in told if event.type == "code_execution"]
            assert blocks == [f"{host + 5}\n"] * 4

    run(work())


def test_what_a_host_has_started_gives_way_with_all_below_it() -> None:
    """A process that runs already, as servers of tools do: what it has started before as well."""
    before = os.getpriority(os.PRIO_PROCESS, os.getpid())
    with subprocess.Popen([sys.executable, "-c", SERVER], stdin=subprocess.PIPE) as server:
        while not (below := psutil.Process(server.pid).children()):
            pass
        have_children_give_way()
        have_children_give_way()  # again and again, as a host does
        assert [os.getpriority(os.PRIO_PROCESS, p) - before for p in (server.pid, below[0].pid)] == [5, 5]
        assert os.getpriority(os.PRIO_PROCESS, os.getpid()) == before
        server.communicate()

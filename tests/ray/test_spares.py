"""What makes a fleet quick after a loss: spare hosts, and what is known of a process that has ended; and that a host
which only starves is not taken for lost."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest
from agentd_ray import hosting
from agentd_ray.looking import look_at_fleets
from agentd_ray.status_rows import headline, host_row
from conftest import OpenFleet, host_pid, run
from fleet_models import StepModel, bash


def test_the_spare_host_of_a_node_takes_over_and_nobody_waits_for_the_lease(
    open_fleet: OpenFleet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With this lease, to wait for it would take longer than the test may."""
    monkeypatch.setattr(hosting, "SPARE_AFTER_S", 0.0)

    async def work() -> None:
        async with open_fleet(spares=True, lease_s=600, folder=str(tmp_path)) as fleet:
            session = await fleet.session(StepModel(bash("date >> dates; wc -l < dates")))
            await session.ask("One.")
            node = session.node
            while node not in fleet._starter.spares:
                await asyncio.sleep(0.05)
            spare, pid = fleet._starter.spares[node], await host_pid(fleet, node)
            (shown,) = [one for one in await asyncio.to_thread(look_at_fleets) if one.fleet == fleet.id]
            assert f"{fleet.id}: 2 hosts" in headline(shown)
            assert [host_row(one)[0].endswith(" (spare)") for one in shown.hosts].count(True) >= 1
            os.kill(pid, signal.SIGKILL)
            events = [event async for event in session.run("Two.")]
            assert [e.output.strip() for e in events if e.type == "code_execution"] == ["2"]
            assert fleet.places.hosts[node] is spare
            assert fleet.counts["hosts_lost"] == 1
            while node not in fleet._starter.spares:  # the next one; it removes what the lost one has left
                await asyncio.sleep(0.05)
        assert not list(tmp_path.glob("agentd-fleet-*"))

    run(work())


def blocking(folder: Path, seconds: float) -> StepModel:
    """A model of the user's that blocks the host's event loop, once."""

    def block(_: object) -> str:
        if not (folder / "blocked").exists():
            (folder / "blocked").touch()
            time.sleep(seconds)
        return "done"

    return StepModel(block)


def test_a_host_that_starves_keeps_its_sessions_as_its_process_shows_that_it_lives(
    open_fleet: OpenFleet, tmp_path: Path
) -> None:
    async def work() -> None:
        async with open_fleet(silent_s=1, lease_s=5) as fleet:
            session = await fleet.session(blocking(tmp_path, 3))
            assert (await session.ask("Starve.")).text == "done"
            assert (session.moves, fleet.counts["hosts_lost"]) == (0, 0)

    run(work())


@pytest.mark.slow
def test_a_host_that_hangs_loses_its_sessions(open_fleet: OpenFleet, tmp_path: Path) -> None:
    async def work() -> None:
        async with open_fleet(silent_s=1, hung_s=5, lease_s=3) as fleet:
            session = await fleet.session(blocking(tmp_path, 90))
            assert (await session.ask("Hang.")).text == "done"
            assert (session.moves, fleet.counts["hosts_lost"]) >= (1, 1)

    run(work())

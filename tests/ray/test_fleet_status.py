"""How a fleet is: asked by its driver, by another program of the cluster, and as a page."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import batch_model
import pytest
import ray
from agentd.errors import ConfigError
from agentd_ray.command import write_page
from agentd_ray.looking import look_at_fleets
from agentd_ray.status import DriverStatus, FleetStatus, HostStatus, SessionStatus, tree_mib
from agentd_ray.status_page import status_page
from agentd_ray.status_rows import duration, headline
from batch_model import BatchModel
from conftest import OpenFleet, run
from ray.cluster_utils import Cluster

OURS = {"modules": [batch_model]}


def agentd(cluster: Cluster, *arguments: str, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "agentd", "fleet", "--address", cluster.address, *arguments],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


async def running(fleet: Any, folder: Path) -> tuple[Any, asyncio.Task[Any]]:
    """Open a session whose block runs until a file is there."""
    model = lambda: BatchModel(f"touch {folder}/begun; while ! [ -e {folder}/end ]; do sleep 0.05; done")  # noqa: E731
    session = await fleet.session(model, conversation_id="works", tools=[])
    asked = asyncio.create_task(session.ask("work"))
    while not (folder / "begun").exists():  # another process makes it
        await asyncio.sleep(0.02)
    return session, asked


def test_a_fleet_says_how_it_is_to_its_driver_and_to_other_programs(
    open_fleet: OpenFleet, cluster: Cluster, tmp_path: Path
) -> None:
    page = tmp_path / "fleet.html"

    async def work() -> None:
        async with open_fleet(per_host=4, **OURS) as fleet:
            await fleet.session(BatchModel, conversation_id="rests")
            asleep = await fleet.session(BatchModel, conversation_id="sleeps")
            await asleep.ask("a")
            await asleep.sleep()
            _, asked = await running(fleet, tmp_path)
            hosts = list(fleet.places.hosts.values())
            while [sum(one.beat.running for one in hosts), sum(one.beat.sessions for one in hosts)] != [1, 2]:
                await asyncio.sleep(0.05)

            status = await fleet.status()
            since = [one.since_s for host in status.hosts for one in host.sessions]
            assert min(since) > 0, "since when is known before anybody asks"
            assert status.states == {"running": 1, "idle": 1, "asleep": 1}
            assert len(status.hosts) == 2
            assert all(host.memory_mib > 10 and host.pid and not host.error for host in status.hosts)
            assert status.driver is not None
            assert (status.driver.places, status.driver.taken) == (8, 2)
            assert sum(host.tokens for host in status.hosts) == 110
            assert sum(host.runs for host in status.hosts) == 1

            fleet.tell_hosts()  # and then it does so every second
            told = await asyncio.to_thread(agentd, cluster, "--json")
            assert told.returncode == 0, told.stderr
            (seen,) = json.loads(told.stdout)
            assert seen["fleet"] == fleet.id
            assert seen["states"] == {"running": 1, "idle": 1, "asleep": 1}
            assert seen["driver"]["places"] == 8
            assert 0 < seen["driver"]["age_s"] < 30, "by the clock of the host that has heard it"
            table = await asyncio.to_thread(agentd, cluster, "--sessions", "--html", str(page))
            assert table.stdout.strip() == str(page)
            table = await asyncio.to_thread(agentd, cluster, "--sessions")
            assert f"fleet {fleet.id}: 2 hosts, 1 running, 1 idle, 1 asleep" in table.stdout
            assert re.search(r"works .* running", table.stdout)
            (tmp_path / "end").touch()
            await asked

    run(work())
    assert "1 running" in page.read_text()
    assert "<script" not in page.read_text()
    assert "<details open>" in page.read_text(), "a page that is read again would close it"


def test_watching_writes_a_line_each_time(open_fleet: OpenFleet, cluster: Cluster) -> None:
    async def work() -> None:
        async with open_fleet(**OURS):
            command = [sys.executable, "-m", "agentd", "fleet", "--address", cluster.address]
            watch = await asyncio.create_subprocess_exec(
                *command, "--json", "--watch", "0.2", stdout=asyncio.subprocess.PIPE
            )
            assert watch.stdout is not None
            for _ in range(2):
                (seen,) = json.loads(await watch.stdout.readline())
                assert len(seen["hosts"]) == 2
            watch.send_signal(signal.SIGINT)
            assert await watch.wait() in (0, 130)

    run(work())


def test_a_host_that_says_nothing_is_told(open_fleet: OpenFleet) -> None:
    async def work() -> None:
        async with open_fleet(silent_s=60.0, lease_s=60.0, **OURS) as fleet:
            host = next(iter(fleet.places.hosts.values()))
            pid = int((await host.ask("about"))["pid"])
            os.kill(pid, signal.SIGSTOP)
            try:
                status = await fleet.status(timeout_s=1.0)
                seen = await asyncio.to_thread(look_at_fleets, 1.0)
            finally:
                os.kill(pid, signal.SIGCONT)
            for one in (status, *seen):
                assert sorted(host.error for host in one.hosts) == ["", "it has not answered for 1 s"]

    run(work())


def test_a_cluster_without_a_fleet_is_told(cluster: Cluster) -> None:
    told = agentd(cluster)
    assert (told.returncode, told.stdout.splitlines()[0][:35]) == (0, "there is no fleet on this cluster; ")


def test_a_cluster_that_is_not_there_is_an_error_with_the_next_step() -> None:
    told = subprocess.run(
        [sys.executable, "-m", "agentd", "fleet", "--address", "127.0.0.1:1"],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert told.returncode != 0
    assert "start one with `ray start --head`" in told.stderr
    assert "Traceback" not in told.stderr


def test_the_simulation_is_a_command_that_needs_no_cluster() -> None:
    told = subprocess.run(
        [sys.executable, "-m", "agentd", "fleet", "simulate", "--nodes", "2", "--per-host", "5"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert told.stdout.startswith("| nodes | sessions |"), told.stderr
    assert "\n| 2 | 10 |" in told.stdout


def test_rays_own_metrics_have_the_figures(open_fleet: OpenFleet, cluster: Cluster) -> None:
    def scraped() -> str:
        found = ""
        for node in ray.nodes():
            if node["Alive"] and (port := node.get("MetricsExportPort")):
                with urllib.request.urlopen(
                    f"http://{node['NodeManagerAddress']}:{port}/metrics", timeout=5
                ) as answer:
                    found += answer.read().decode()
        return found

    async def work() -> None:
        async with open_fleet(**OURS) as fleet:
            session = await fleet.session(BatchModel, conversation_id="c1")
            await session.ask("a")
            due = time.monotonic() + 60
            while True:
                text = await asyncio.to_thread(scraped)
                lines = [line for line in text.splitlines() if fleet.id in line]
                if any("agentd_tokens" in line and line.endswith(" 110.0") for line in lines) and any(
                    "agentd_sessions" in line and 'state="idle"' in line and line.endswith(" 1.0")
                    for line in lines
                ):
                    return
                assert time.monotonic() < due, "\n".join(lines) or text[:2000]
                await asyncio.sleep(1.0)

    run(work())


# --- what is shown


def example(**more: Any) -> FleetStatus:
    sessions = [SessionStatus(conversation="<b>c1</b>", state="running", since_s=3.0)]
    host = HostStatus(
        fleet="f", node="n" * 40, name="one&two", sessions=sessions, driver=DriverStatus(**more)
    )
    lost = HostStatus(fleet="f", node="m" * 40, error="it has not answered for 5 s")
    (status,) = FleetStatus.of_hosts([host, lost])
    return status


def test_names_are_text_in_the_page_whatever_they_are() -> None:
    page = status_page([example()], refresh_s=2.0)
    assert "&lt;b&gt;c1&lt;/b&gt;" in page
    assert "one&amp;two" in page
    assert '<meta http-equiv="refresh" content="2">' in page
    assert "it has not answered for 5 s" in page
    assert "There is no fleet" in status_page([])


def test_the_page_of_a_link_is_replaced_and_a_fifo_stays_one(tmp_path: Path) -> None:
    page, link, fifo = tmp_path / "page.html", tmp_path / "link.html", tmp_path / "fifo"
    page.write_text("old")
    link.symlink_to(page)
    os.mkfifo(fifo)
    write_page(link, [example()], with_sessions=True)
    assert link.is_symlink()
    assert "one&amp;two" in page.read_text()
    with pytest.raises(ConfigError, match="it is not a file"):
        write_page(fifo, [example()], with_sessions=True)
    assert fifo.is_fifo()
    long = tmp_path / ("n" * 255)
    write_page(long, [example()], with_sessions=True)
    assert sorted(tmp_path.iterdir()) == sorted([page, link, fifo, long])


def test_a_driver_that_is_gone_is_told() -> None:
    assert "its driver may be gone" in headline(example(age_s=100))
    for minutes_apart in (-600, 600):  # the driver's clock and that of who looks
        assert "its driver may be gone" not in headline(example(at=time.time() + minutes_apart, age_s=1))


@pytest.mark.parametrize(("seconds", "said"), [(3, "3 s"), (90, "1 min"), (7300, "2 h 1 min")])
def test_durations_are_for_people(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_memory_of_a_process_and_those_below_it() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", "x = bytearray(60 << 20); print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert tree_mib(os.getpid()) > tree_mib(child.pid) > 60
        assert child.stdin is not None
        child.stdin.write(b"\n")

"""`Fleet.map` on a real cluster: every task is answered once, whoever is killed meanwhile."""

from __future__ import annotations

import collections
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import batch_model
import pytest
from agentd.errors import ConfigError
from agentd_ray import MapBudget, MapResult
from batch_model import BatchModel
from conftest import OpenFleet, run
from killed_map import read_results
from places import SUPPORT
from ray.cluster_utils import Cluster

DRIVER = SUPPORT / "fleet_driver.py"
OURS = {"modules": [batch_model]}


async def all_of(results: Any) -> list[MapResult]:
    return [result async for result in results]


def test_every_task_is_answered_once_in_order_with_its_files(open_fleet: OpenFleet) -> None:
    tasks: list[Any] = [f"task {n}" for n in range(10)]
    tasks.append({"id": "with files", "task": "last", "files": {"deep/data": "given\n"}})
    model = BatchModel("cat deep/data 2>/dev/null > kept; true")

    async def work() -> None:
        async with open_fleet(per_host=3, **OURS) as fleet:
            assert fleet.capacity == 6
            found = await all_of(fleet.map(tasks, model=lambda: model, tools=[], ordered=True, name="m"))
            assert [result.text for result in found] == [f"done: task {n}" for n in range(10)] + [
                "done: last"
            ]
            assert {result.usage.total_tokens for result in found} == {220}
            session = await fleet.session(
                lambda: BatchModel("cat kept deep/data"), conversation_id=found[-1].conversation
            )
            transcript = await session.transcript()
            assert [message.role for message in transcript.messages] == [
                "task",
                "answer",
                "results",
                "answer",
            ]
            again = await all_of(fleet.map(tasks, model="nobody is asked", name="m"))
            assert all(result.is_from_journal for result in again)
            await session.aclose()

    run(work())


def test_a_map_without_a_model_is_refused(open_fleet: OpenFleet) -> None:
    async def work() -> None:
        async with open_fleet() as fleet:
            with pytest.raises(ConfigError, match="1 tasks have no model"):
                fleet.map(["a", {"task": "b", "options": {"model": "x"}}])

    run(work())


def test_an_answer_of_a_type_comes_as_a_value(open_fleet: OpenFleet) -> None:
    async def work() -> None:
        async with open_fleet(**OURS) as fleet:
            (result,) = await all_of(fleet.map(["7"], model=lambda: BatchModel(said="{task}"), output=int))
            assert (result.status, result.value) == ("answered", 7)

    run(work())


def test_a_budget_over_all_holds_on_a_fleet(open_fleet: OpenFleet) -> None:
    async def work() -> None:
        async with open_fleet(**OURS) as fleet:
            run = fleet.map(list("abc"), model=BatchModel, concurrency=1, budget=MapBudget(max_tokens=110))
            assert sorted(result.status for result in await all_of(run)) == [
                "answered",
                "not_done",
                "not_done",
            ]

    run(work())


@pytest.mark.slow
def test_a_host_that_is_killed_takes_no_task_with_it(open_fleet: OpenFleet, tmp_path: Path) -> None:
    effects = tmp_path / "effects"

    async def work() -> None:
        async with open_fleet(per_host=6, **OURS) as fleet:
            tasks = [f"task-{n}" for n in range(40)]
            model = lambda: BatchModel(f"echo {{task}} >> {effects}; sleep 0.2")  # noqa: E731
            found = []
            async for result in fleet.map(tasks, model=model, tools=[], name="m"):
                found.append(result)
                if len(found) == 10:
                    host = next(iter(fleet.places.hosts.values()))
                    os.kill(int((await host.ask("about"))["pid"]), signal.SIGKILL)
            assert sorted(result.task for result in found) == sorted(tasks)
            assert {result.status for result in found} == {"answered"}
            assert fleet.counts["hosts_lost"] == 1

    run(work())
    ran = collections.Counter(effects.read_text().split())
    assert sum(count > 1 for count in ran.values()) <= 6, "only turns that the kill interrupted ran again"


def begin(cluster: Cluster, store: str, folder: Path, tasks: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(DRIVER), cluster.address, store, str(folder), str(tasks)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(SUPPORT)},
        text=True,
    )


@pytest.mark.parametrize(("tasks", "kill_after"), [(30, 10), pytest.param(300, 120, marks=pytest.mark.slow)])
@pytest.mark.timeout(500)
def test_the_driver_is_killed_and_started_again(
    tasks: int, kill_after: int, cluster: Cluster, store: str, tmp_path: Path
) -> None:
    told = read_results(begin(cluster, store, tmp_path, tasks), kill_after)
    final = read_results(begin(cluster, store, tmp_path, tasks))
    assert sorted(result["text"] for result in final) == sorted(f"done: task-{n}" for n in range(tasks))
    assert {result["status"] for result in final} == {"answered"}
    kept = {result["id"] for result in final if result["is_from_journal"]}
    assert {result["id"] for result in told} <= kept
    ran = collections.Counter((tmp_path / "effects").read_text().split())
    assert set(ran) == {f"task-{n}" for n in range(tasks)}
    assert sum(count > 1 for count in ran.values()) <= 16, "only turns that the kill interrupted ran again"
    print(f"{tasks} tasks: {len(kept)} from the journal, {sum(c > 1 for c in ran.values())} blocks ran again")

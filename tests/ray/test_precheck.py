"""`agentd check --fleet`: what would go wrong is told in the daemon's words, and no host is started."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray
from agentd_daemon.places import CheckablePlace, MissingThing, PlaceNeeds, PlaceReport
from agentd_ray import Fleet, FleetError
from agentd_ray.agent_place import FleetPlace
from agentd_store.opened import open_store
from conftest import run
from ray.cluster_utils import Cluster

Look = Callable[..., PlaceReport]


@pytest.fixture
def look(cluster: Cluster, store: str) -> Look:
    """Looks at the cluster, for agents without a sandbox."""

    def check(
        *, address: str = cluster.address, needs: PlaceNeeds | None = None, **options: Any
    ) -> PlaceReport:
        place = FleetPlace(address, **{"store": store, "executor": "subprocess", **options})
        assert isinstance(place, CheckablePlace)
        return place.check(needs or PlaceNeeds())

    return check


def told_by_a_fleet(address: str, store: str, **options: Any) -> str:
    async def opened() -> None:
        async with Fleet(address, store=store, **options):
            pass

    with pytest.raises(FleetError) as caught:
        run(opened())
    return str(caught.value)


def hosts() -> list[Any]:
    return [one for one in ray.util.list_named_actors(all_namespaces=True) if "agentd-host" in one["name"]]


def test_what_is_right_is_told_and_nothing_is_left(look: Look, store: str) -> None:
    before = hosts()
    report = look(needs=PlaceNeeds(commands=["sh"], folders=["/"]))
    assert (report.faults, report.warnings, report.missing) == ([], [], [])
    nodes, kept = report.found
    assert nodes.startswith("the fleet has 2 nodes: ")
    assert kept == "the store can be written; nothing is kept there yet"
    assert not Path(store.removeprefix("file://")).exists(), "it was only tried"
    assert hosts() == before
    open_store(store)
    assert look().found[1] == "the store can be written"


def test_an_executor_that_no_node_has_is_told_as_the_fleet_does(
    look: Look, cluster: Cluster, store: str
) -> None:
    report = look(executor="msb")
    title, *reasons = told_by_a_fleet(cluster.address, store, executor="msb").splitlines()
    assert title == "Fleet: no node can have a host:"
    assert sorted(report.faults) == sorted(reasons)
    assert not report.found


def test_an_executor_of_one_agent_is_told_with_its_nodes(look: Look) -> None:
    report = look(executor=None, needs=PlaceNeeds(executors={"here": "subprocess", "there": "msb"}))
    assert len(report.faults) == 2
    for fault in report.faults:
        assert " cannot open the session 'there': its executor 'msb' does not work: " in fault
        assert fault.endswith("{'pip': [...]}})")


def test_a_store_that_cannot_be_written_is_told_once_for_all_nodes(look: Look, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.touch()
    (fault,) = look(store=f"file://{blocked}/store").faults
    assert fault.startswith(f"the store 'file://{blocked}/store' could not ")
    (tmp_path / "about").mkdir()
    (tmp_path / "about" / "about.json").write_text('{"format": 2, "check": ""}')
    (fault,) = look(store=f"file://{tmp_path}/about").faults
    assert "has format 2, this agentd reads format 1: update agentd" in fault


def test_an_address_where_nobody_is_is_told_as_the_fleet_does(
    look: Look, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    assert look(address="127.0.0.1:9").faults == [told_by_a_fleet("127.0.0.1:9", store)]


def test_what_is_not_on_nodes_is_told_for_each(look: Look) -> None:
    report = look(needs=PlaceNeeds(commands=["sh", "no-such-server"], folders=["/no/such/skills"]))
    assert {(one.kind, one.name) for one in report.missing} == {
        ("command", "no-such-server"),
        ("folder", "/no/such/skills"),
    }
    assert len({one.where for one in report.missing}) == 2
    assert all(isinstance(one, MissingThing) for one in report.missing)
    assert not report.faults, "an agent may do without"


def test_a_node_that_does_not_answer_is_told_with_its_name(
    look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentd_ray.precheck.NODES_S", 0.0)
    report = look()
    assert len(report.faults) == 2
    assert all("cannot have a host: it has not answered for 0 s" in fault for fault in report.faults)


def test_the_command_says_all_of_it_for_one_machine_without_a_cluster(tmp_path: Path) -> None:
    (tmp_path / "agents.yaml").write_text(
        f"store: file://{tmp_path}/store\nagents:\n  - name: a\n    model: m\n    mode: ptc\n"
        "    executor: subprocess\n    mcp_servers:\n      - command: no-such-server\n"
    )
    command = [sys.executable, "-m", "agentd", "check", "agents.yaml", "--fleet", "local"]

    def done(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *arguments], cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )

    right = done()
    assert right.returncode == 0, right.stderr
    lines = right.stdout.splitlines()
    assert lines[:2] == ["ok: 1 agent: a", "the code of a runs in: subprocess"]
    assert lines[2].startswith("the fleet has 1 node: ")
    assert right.stderr.startswith("agents.yaml:8:18: agents[0].mcp_servers[0].command: is not on ")
    assert right.stderr.endswith(" (warning)\n")
    (tmp_path / "store").touch()
    wrong = done("--json")
    report = json.loads(wrong.stdout)
    assert (wrong.returncode, report["ok"]) == (2, False)
    (error,) = report["errors"]
    assert (error["file"], error["line"], error["path"]) == (None, None, "")
    assert error["message"].startswith(f"the store 'file://{tmp_path}/store' could not ")
    assert report["fleet"][0].startswith("the fleet has 1 node: ")

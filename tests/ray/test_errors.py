"""What a user may have wrong: each error names what, where, and the next step."""

from __future__ import annotations

import builtins
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import ray
from agentd.errors import ConfigError, MissingPluginError
from agentd_ray import Fleet, FleetError, hosting
from agentd_store import StoreError
from conftest import OpenFleet, run
from fleet_models import StepModel, bash
from ray.cluster_utils import Cluster


async def opened(fleet: Fleet) -> None:
    async with fleet:
        pass


def test_without_ray_the_distribution_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any) -> Any:
        if name == "ray":
            raise ImportError("No module named 'ray'")
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingPluginError, match="pip install ray"):
        run(opened(Fleet(store="file:///nowhere")))


def test_an_old_ray_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "__version__", "2.9.3")
    with pytest.raises(ConfigError, match=r"needs Ray 2\.60 or newer, 2\.9\.3 is installed.*all nodes"):
        run(opened(Fleet(store="file:///nowhere")))


def test_a_cluster_that_is_not_there_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray itself would try for minutes. Whether the machine has some other cluster (`auto`), a test cannot know."""
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(
        FleetError, match=r"the cluster at '127\.0\.0\.1:9' is not reached: .*refused.*ray start --head"
    ):
        run(opened(Fleet("127.0.0.1:9", store="file:///nowhere")))
    with pytest.raises(ConfigError, match=r"must be 'auto', 'HOST:PORT'.*got 'ray://head:10001'"):
        run(opened(Fleet("ray://head:10001", store="file:///nowhere")))


def test_what_is_not_ray_is_told_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray itself would try for minutes, and say nothing."""
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr("agentd_ray.connecting.REACH_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(
            FleetError, match=rf"the cluster at '{address}' is not reached: .*not the head.*ray start"
        ):
            run(opened(Fleet(address, store="file:///nowhere")))


def test_a_token_that_is_not_here_is_told_with_how_to_get_it(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "agents.yaml").write_text("agents: [{name: a, model: m}]")
    command = [sys.executable, "-m", "agentd", "check", "agents.yaml", "--store", "file:///nowhere"]
    environment = {**os.environ, "HOME": str(tmp_path), "RAY_AUTH_MODE": "token"}
    done = subprocess.run(
        [*command, "--fleet", cluster.address],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    assert (
        f"the cluster at '{cluster.address}' cannot be used: Token authentication is enabled" in done.stderr
    )
    assert "copy that file of its head to here, or set RAY_AUTH_TOKEN" in done.stderr

    def refuse(**_: Any) -> None:  # after 20 s, of a cluster that has another token, or has one at all
        raise ConnectionError("Failed to connect to Ray cluster at 10.0.0.1:6379")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(FleetError, match=r"does not let this program in: .*set RAY_AUTH_MODE=token here"):
        run(opened(Fleet(cluster.address, store="file:///nowhere")))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"per_host": 0}, "per_host must be a number, 1 or more, got 0"),
        ({"lease_s": "3"}, "lease_s must be a number"),
        ({"sleep_after": -1}, "sleep_after must be"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Fleet(store="file:///nowhere", **options)


def test_a_store_in_one_process_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"memory://.*one process"):
        Fleet(store="memory://x/y")


def test_a_node_without_the_executor_is_named(open_fleet: OpenFleet) -> None:
    with pytest.raises(
        FleetError, match=r"(?s)no node can have a host.*node \S+ \(\w+\).*executor 'msb'.*hosts=\["
    ):
        run(_open(open_fleet, executor="msb"))


def test_a_node_with_another_version_of_agentd_is_named(
    open_fleet: OpenFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosting, "version", lambda _: "0.8.1")
    says = r"(?s)node \S+ \(\w+\) cannot have a host: it has agentd \S+, and this program 0\.8\.1: install the same"
    with pytest.raises(FleetError, match=says):
        run(_open(open_fleet))


async def _open(open_fleet: OpenFleet, **options: Any) -> None:
    async with open_fleet(**options):
        pass


def test_an_executor_of_one_session_that_is_not_there_is_named_with_its_node(open_fleet: OpenFleet) -> None:
    async def work() -> None:
        async with open_fleet() as fleet:
            with pytest.raises(
                FleetError, match=r"the node \S+ \(\w+\) cannot open the session 'c1'.*'msb'.*all nodes"
            ):
                await fleet.session(StepModel(), executor="msb", conversation_id="c1")
            assert not any(host.sessions for host in fleet.places.hosts.values()), "its place is free again"

    run(work())


def test_what_a_session_does_not_take_is_refused_by_name(open_fleet: OpenFleet) -> None:
    async def work() -> None:
        async with open_fleet() as fleet:
            with pytest.raises(ConfigError, match="cwd: a session of a fleet has none"):
                await fleet.session(StepModel(), cwd=".")
            with pytest.raises(TypeError, match="instrctions"):
                await fleet.session(StepModel(), instrctions="x")
            with pytest.raises(ConfigError, match="conversation"):
                await fleet.session(StepModel(), conversation_id="../x")
            with pytest.raises(FleetError, match=r"drain: 'nowhere' names 0 hosts"):
                await fleet.drain("nowhere")

    run(work())


def test_a_store_that_cannot_be_written_is_told_and_the_run_goes_on(
    open_fleet: OpenFleet, store: str
) -> None:
    """The folder of the log is a file from the second turn on: as with a full store, nothing can be written."""

    async def work() -> None:
        async with open_fleet() as fleet:
            log = Path(store.removeprefix("file://")) / "conversations" / "c1"
            spoil = f"mv {log} {log}-away; : > {log}"
            session = await fleet.session(
                StepModel(bash(spoil), bash(f"rm {log}; mv {log}-away {log}")), conversation_id="c1"
            )
            events = [event async for event in session.run("Work.")]
            told = [event.text for event in events if event.type == "source_log" and event.level == "warning"]
            assert any("not in the store yet" in text for text in told), told
            assert events[-1].text == "done"
            assert len(await session.checkpoints()) == 2, "what the first turn did came with the second"

    run(work())


def test_a_store_that_is_not_reached_is_named(open_fleet: OpenFleet, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.touch()

    async def work() -> None:
        async with open_fleet(store=f"file://{blocked}/store") as fleet:
            with pytest.raises(StoreError, match=r"on the node \S+ \(\w+\): .*blocked/store' could not"):
                await fleet.session(StepModel())

    run(work())


def test_a_module_that_nodes_do_not_have_is_named(cluster: Cluster, store: str) -> None:
    async def work() -> None:
        async with Fleet(cluster.address, store=store, executor="subprocess") as fleet:
            with pytest.raises(ConfigError, match=r"No module named 'fleet_models'.*Fleet\(modules="):
                await fleet.session(StepModel())

    run(work())

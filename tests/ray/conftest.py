"""A real cluster of two nodes on this machine, started once; fleets on it, each with a store of its own."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import fleet_models
import psutil
import pytest
import ray
from agentd_ray import Fleet
from ray.cluster_utils import Cluster

OPTIONS = {"include_dashboard": False, "object_store_memory": 100 * 2**20}
OpenFleet = Callable[..., Any]


@pytest.fixture(autouse=True)
def _state_of_its_own(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
    monkeypatch.delenv("AGENTD_STORE_KEY", raising=False)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Two nodes of one CPU. When it is over, no process of Ray is left."""
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112  (Ray's spelling; a busy machine would starve its workers)
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    made = _two_nodes(before)
    ray.init(address=made.address, namespace="agentd", log_to_driver=False)
    yield made
    ray.shutdown()
    made.shutdown()
    left = [p for p in psutil.Process().children(recursive=True) if p.pid not in before]
    _, alive = psutil.wait_procs(left, timeout=10)
    assert not alive, f"processes are left: {alive}"


def _two_nodes(before: set[int]) -> Cluster:
    """Start them. Ray gives a node up after 30 s, which a busy machine may need: then it is tried again."""
    for tries_left in (2, 1, 0):
        made = Cluster(initialize_head=False)
        try:
            for _ in range(2):
                made.add_node(num_cpus=1, **OPTIONS)
        except Exception:  # a bare one of Ray's
            made.shutdown()
            for process in psutil.Process().children(recursive=True):
                if process.pid not in before:  # of a node that was given up
                    process.kill()
            if not tries_left:
                raise
        else:
            break
    return made


@pytest.fixture
def store(tmp_path: Path) -> str:
    """The URL of an empty store that both nodes reach."""
    return f"file://{tmp_path}/store-{secrets.token_hex(3)}"


@pytest.fixture
def open_fleet(cluster: Cluster, store: str) -> OpenFleet:
    """Opens a fleet on the cluster, without a sandbox."""

    @asynccontextmanager
    async def make(**options: Any) -> AsyncIterator[Fleet]:
        given = {
            "store": store,
            "executor": "subprocess",
            "modules": [fleet_models],
            "silent_s": 30,
            "spares": False,  # most fleets here end before one has started
            **options,
        }
        async with Fleet(cluster.address, **given) as fleet:
            yield fleet

    return make


def run(work: Any, timeout_s: float = 100.0) -> Any:
    """Run an async test, within a time."""

    async def bounded() -> Any:
        async with asyncio.timeout(timeout_s):
            return await work

    return asyncio.run(bounded())


async def host_pid(fleet: Any, node: str) -> int:
    """The process of the host on a node."""
    return int((await fleet.places.hosts[node].ask("about"))["pid"])


def is_there(pid: int) -> bool:
    """Tell whether a process runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True

"""What a fleet costs, on a local cluster of two nodes: `PYTHON tests/ray/bench.py [--sessions 1000] [--kills 20]`.

Each row is measured in one run against one process that does the same with plain sessions, since the machine differs
from hour to hour.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

import fleet_models
import psutil
import ray
from agentd.events import CodeExecution, CodeOutput
from agentd.session.session import Session
from agentd_ray import Fleet
from fleet_models import StepModel, bash
from ray.cluster_utils import Cluster

OPTIONS = {"include_dashboard": False, "object_store_memory": 200 * 2**20}
# Ray has its workers give way to all other processes: to the one that it is compared with, too.
os.environ |= {"RAY_worker_niceness": "0"}


def model() -> Any:
    return StepModel(bash("echo hello"))


def cpu_by_kind() -> dict[str, float]:
    """Return the CPU seconds of what is below this process, by what it is."""
    kinds: dict[str, float] = {"driver": sum(psutil.Process().cpu_times()[:2])}
    for one in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            title = " ".join(one.cmdline()) or one.name()
            known = ("FleetHost", "gcs_server", "raylet", "agent")
            kind = next((word for word in known if word in title), "others")
            times = one.cpu_times()
            kinds[kind] = kinds.get(kind, 0.0) + times[0] + times[1]
            kinds["ended children"] = kinds.get("ended children", 0.0) + times[2] + times[3]
    return kinds


def cpu_s(*pids: int) -> float:
    """Return the CPU seconds of processes and of their children that have ended, and of those that live."""
    total, seen = 0.0, set[int]()
    for root in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(root)
            for one in (process, *process.children(recursive=True)):
                if one.pid not in seen:
                    seen.add(one.pid)
                    with contextlib.suppress(psutil.NoSuchProcess):
                        total += sum(one.cpu_times()[:4])
    return total


async def in_turn(count: int, at_once: int, one: Any) -> dict[str, float]:
    """Return what `count` times `one(n)` takes, so many at once. The cluster is below this process, too."""
    gate, used = asyncio.Semaphore(at_once), cpu_s(os.getpid())

    async def bounded(number: int) -> None:
        async with gate:
            await one(number)

    began = time.monotonic()
    await asyncio.gather(*map(bounded, range(count)))
    return {"seconds": time.monotonic() - began, "cpu_s": cpu_s(os.getpid()) - used}


async def three_turns(ask: Any) -> None:
    for number in range(3):
        end = await ask(f"Task {number}.")
        assert (end.stop_reason, end.text) == ("answer", "done"), end


async def one_process(args: argparse.Namespace, folder: Path) -> dict[str, float]:
    async def one(number: int) -> None:
        async with Session(
            model(),
            executor="subprocess",
            tools=[],
            cwd=folder / f"work-{number}",
            snapshots=("store", {"url": f"file://{folder}/store", "conversation": f"c{number}"}),
            snapshots_dir=folder / "cache",
            checkpoint_every_turn=True,
        ) as session:
            await three_turns(session.ask)

    return await in_turn(args.sessions, args.at_once, one)


@contextlib.asynccontextmanager
async def opened(args: argparse.Namespace, folder: Path, **options: Any) -> AsyncIterator[Fleet]:
    given = {"store": f"file://{folder}/store", "executor": "subprocess", "folder": str(folder), **options}
    async with Fleet(args.address, modules=[fleet_models], **given) as fleet:
        yield fleet


async def over_two_nodes(args: argparse.Namespace, folder: Path) -> dict[str, float]:
    async with opened(args, folder, per_host=args.sessions) as fleet:

        async def one(number: int) -> None:
            async with await fleet.session(model(), conversation_id=f"c{number}", tools=[]) as session:
                await three_turns(session.ask)

        before = cpu_by_kind()
        taken = await in_turn(args.sessions, args.at_once, one)
        print({kind: round(after - before.get(kind, 0.0), 1) for kind, after in cpu_by_kind().items()})
        return {**taken, "hosts_lost": fleet.counts["hosts_lost"]}


async def latencies(args: argparse.Namespace, folder: Path) -> dict[str, float]:
    """A block's time inside, and how long an event takes to the driver (both clocks are this machine's)."""
    stamp = StepModel(*[bash("sleep 0.1; date +%s.%N")] * 20)
    blocks: dict[str, list[float]] = {"here": [], "there": []}
    events: list[float] = []
    local = Session(stamp, executor="subprocess", tools=[], cwd=folder / "local")
    async with local, opened(args, folder) as fleet:
        there = await fleet.session(stamp, tools=[])
        for place, session in (("here", local), ("there", there)):
            await session.ask("Warm up.")
            async for event in session.run("Measure."):
                if isinstance(event, CodeExecution):
                    blocks[place].append(event.wall_s)
                elif isinstance(event, CodeOutput) and place == "there":
                    events.append(time.time() - float(event.text))
    here, inside = statistics.median(blocks["here"]), statistics.median(blocks["there"])
    events.sort()
    return {
        "block_here_ms": here * 1e3,
        "block_inside_ms": inside * 1e3,
        "ratio": inside / here,
        "event_p50_ms": statistics.median(events) * 1e3,
        "event_p95_ms": events[int(len(events) * 0.95)] * 1e3,
    }


async def kills(args: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Kill hosts and nodes under running sessions; each turn leaves a line outside of the workspace."""
    chance, ledger = random.Random(args.seed), folder / "ledger"
    ledger.mkdir()
    added: list[Any] = []
    async with opened(args, folder, per_host=args.kill_sessions) as fleet:
        sessions = [
            await fleet.session(
                StepModel(
                    *[
                        bash(f"echo {turn} >> {ledger}/{number}; sleep 0.5; echo {turn} >> kept; cat kept")
                        for turn in range(3)
                    ]
                ),
                conversation_id=f"k{number}",
                tools=[],
            )
            for number in range(args.kill_sessions)
        ]
        over, lost, back, runs = asyncio.Event(), 0, [], 0

        async def work(session: Any) -> None:
            nonlocal lost, runs
            while not over.is_set():
                runs += 1
                end = await session.ask("Work.")
                lost += (end.stop_reason, end.text) != ("answer", "done")

        async def disturb() -> None:
            for number in range(args.kills):
                await asyncio.sleep(chance.uniform(0.5, 2.0))
                hosts = [host for host in fleet.places.hosts.values() if host.lost is None]
                if number % 5 == 4:
                    node = args.cluster.add_node(num_cpus=1, **OPTIONS)
                    while node.node_id not in fleet.places.hosts:
                        await asyncio.sleep(0.05)
                    added.append(node)
                    for session in sessions[:20]:  # have some there
                        await session.ask_to_leave()
                    await asyncio.sleep(3)
                    victims = [s for s in sessions if s.node == node.node_id]
                    began = time.monotonic()
                    os.kill(node.all_processes["raylet"][0].process.pid, signal.SIGKILL)
                    gone = {node.node_id}
                else:
                    host = chance.choice(hosts)
                    victims = [s for s in sessions if s.node == host.node.id]
                    pid = (await host.ask("about"))["pid"]
                    began = time.monotonic()
                    os.kill(pid, signal.SIGKILL)
                    gone = set()
                moves = {s: s.moves for s in victims}
                while any(s.moves == moves[s] and s.is_busy for s in victims) or any(
                    s.node in gone for s in victims
                ):
                    await asyncio.sleep(0.02)
                back.append(time.monotonic() - began)
                print(f"  kill {number}: {len(victims)} sessions back after {back[-1]:.1f} s", flush=True)
            over.set()

        await asyncio.gather(*map(work, sessions), disturb())
        twice = unseen = 0
        for number, session in enumerate(sessions):
            transcript = await session.transcript()
            kept = [e.output.split() for e in transcript.executions]
            done = (ledger / str(number)).read_text().split()
            twice += len(done) - len(kept)
            # A note of a turn that is lost again before it is kept is lost, too, so notes cannot be counted; moves can.
            unseen += max(0, len(done) - len(kept) - session.moves)
    return {
        "kills": len(back), "runs": runs, "lost": lost, "turns_done_again": twice, "turns_again_unseen": unseen,
        "back_s_median": statistics.median(back), "back_s_max": max(back),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=200)
    parser.add_argument("--at-once", type=int, default=64)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--kill-sessions", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=["scale", "latency", "kills"])
    args = parser.parse_args()
    args.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, **OPTIONS})
    args.cluster.add_node(num_cpus=1, **OPTIONS)
    args.address = args.cluster.address
    ray.init(address=args.address, namespace="agentd", log_to_driver=False)
    found: dict[str, Any] = {}
    try:
        for name, rows in (
            ("scale", (one_process, over_two_nodes)),
            ("latency", (latencies,)),
            ("kills", (kills,)),
        ):
            if name not in args.only:
                continue
            for row in rows:
                with tempfile.TemporaryDirectory(prefix="agentd-bench-") as folder:
                    found[row.__name__] = asyncio.run(row(args, Path(folder)))
                print(row.__name__, json.dumps(found[row.__name__]), flush=True)
        if "over_two_nodes" in found:
            over, one = found["over_two_nodes"], found["one_process"]
            print(f"{args.sessions} sessions, three turns each, to one process's:", end=" ")
            print(
                f"{over['seconds'] / one['seconds']:.2f} of its time, {over['cpu_s'] / one['cpu_s']:.2f} of its CPU"
            )
    finally:
        ray.shutdown()
        args.cluster.shutdown()


if __name__ == "__main__":
    main()

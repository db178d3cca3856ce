"""Measures what `agentd_ray.scale` calculates with; its figures go into `agentd_ray.scale_constants`.

    python tests/ray/measure_constants.py [--sessions 60] [--turns 20] [--files 100] [--executor native]

What is measured is real: sessions, blocks, checkpoints, an S3 server (moto, in a process of its own) whose requests are
counted. The model answers at once.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import importlib.util
import json
import os
import re
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

import batch_model
from agentd.protocols import ModelFinish, ModelText
from agentd_ray import LocalFleet
from agentd_ray.map_journal import MapJournal
from agentd_ray.map_records import ResultRecord
from batch_model import BatchModel

_SERVER = """
import logging, sys
from moto.server import ThreadedMotoServer
logging.getLogger("werkzeug").setLevel(logging.INFO)
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print("http://%s:%s" % server.get_host_and_port(), flush=True)
sys.stdin.read()
"""
_REQUEST = re.compile(r'"(?:\x1b\[[\d;]*m)*(PUT|GET|HEAD|DELETE|POST) (/\S*) HTTP')
WRITES = ("PUT", "POST", "DELETE", "LIST")


class CountedServer:
    """An S3 server, and the requests that it has had."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.read_to = 0

    def counts(self) -> collections.Counter[str]:
        """Return the requests since the last call, by kind; a GET of a folder is a LIST."""
        with self.log.open(encoding="utf-8", errors="replace") as file:
            file.seek(self.read_to)
            found = _REQUEST.findall(file.read())
            self.read_to = file.tell()
        return collections.Counter(
            "LIST" if kind == "GET" and "list-type" in path else kind for kind, path in found
        )


@contextmanager
def s3(folder: Path) -> Iterator[tuple[str, CountedServer]]:
    import s3fs

    log = folder / "requests"
    with (
        log.open("w") as errors,
        subprocess.Popen(
            [sys.executable, "-c", _SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as server,
    ):
        assert server.stdout is not None
        assert server.stdin is not None
        os.environ |= {
            "AWS_ENDPOINT_URL": server.stdout.readline().strip(),
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        bucket = f"bucket-{secrets.token_hex(6)}"
        s3fs.S3FileSystem(skip_instance_cache=True).mkdir(bucket)
        yield f"s3://{bucket}/agents", CountedServer(log)
        server.stdin.close()


def cpu_s() -> float:
    """Return CPU seconds of this process and all below it, those that have ended included."""
    ticks = 0
    for pid in below(os.getpid()):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += sum(map(int, fields[11:15]))  # utime, stime, cutime, cstime
    return ticks / os.sysconf("SC_CLK_TCK")


def pss_mib(pids: Iterator[int] | list[int]) -> float:
    total = 0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += int(re.search(r"^Pss:\s+(\d+) kB", text, re.M)[1])  # type: ignore[index]
    return total / 1024


def below(pid: int) -> list[int]:
    """Return a process and all below it."""
    parents = collections.defaultdict(list)
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            try:
                stat = Path(entry.path, "stat").read_text()
            except OSError:
                continue
            parents[int(stat.rpartition(")")[2].split()[1])].append(int(entry.name))
    found, waiting = [], [pid]
    while waiting:
        found.append(waiting.pop())
        waiting += parents[found[-1]]
    return found


async def sessions_at_once(count: int, executor: str, store: str | None, files: int) -> dict[str, float]:
    """Open so many sessions, have each run a block, let them rest, and close them."""
    content = {f"file-{number}": b"x" * 1000 for number in range(files)}
    model = lambda: BatchModel("echo changed > file-0")  # noqa: E731
    async with LocalFleet(model=model, executor=executor, tools=[], store=store) as fleet:
        before_mib, began, cpu = pss_mib(below(os.getpid())), time.perf_counter(), cpu_s()

        def name(n: int) -> str | None:
            return f"c{n}" if store else None

        opened = [await fleet.session(conversation_id=name(n), files=content) for n in range(count)]
        opening_s = time.perf_counter() - began
        began = time.perf_counter()
        for session in opened:
            await session.ask("go")
        asking_s = time.perf_counter() - began
        await asyncio.sleep(2.5)  # spare workers of many open runners last a second
        held_mib = pss_mib(below(os.getpid())) - before_mib
        began = time.perf_counter()
        for session in opened:
            await session.aclose()
        closing_s = time.perf_counter() - began
        cpu = cpu_s() - cpu
    return {
        "open_ms": 1000 * opening_s / count,
        "ask_of_two_turns_ms": 1000 * asking_s / count,
        "close_ms": 1000 * closing_s / count,
        "cpu_ms": 1000 * cpu / count,
        "memory_mib": held_mib / count,
    }


async def turns(executor: str, store: str | None, files: int, number: int) -> dict[str, float]:
    """One session: what a further turn with a block costs."""
    content = {f"file-{n}": b"x" * 1000 for n in range(files)}
    async with LocalFleet(
        model=lambda: BatchModel("date +%N > file-0"), executor=executor, tools=[], store=store
    ) as fleet:
        session = await fleet.session(conversation_id="turns" if store else None, files=content)
        times = []
        await session.ask("go")
        cpu = cpu_s()
        for _ in range(number):
            await session.continue_from(type(session.transcript)())  # so that each one has a block
            began = time.perf_counter()
            await session.ask("go")
            times.append(time.perf_counter() - began)
        cpu = cpu_s() - cpu
        await session.aclose()
    return {
        "two_turns_ms_median": 1000 * statistics.median(times),
        "two_turns_ms_p90": 1000 * sorted(times)[int(number * 0.9)],
        "two_turns_cpu_ms": 1000 * cpu / number,
    }


class Talking(BatchModel):
    """Says 400 words."""

    async def _events(self) -> Any:
        for number in range(400):
            yield ModelText(f"word {number} ")
            if number % 20 == 0:
                await asyncio.sleep(0.005)
        yield ModelFinish(reason="stop")


async def over_ray(folder: str, tasks: int) -> dict[str, float]:
    """A fleet on this machine: what the driver spends, itself and Ray's threads in it."""
    from agentd_ray import Fleet

    def own_cpu_s() -> float:
        times = os.times()
        return times.user + times.system

    options = {"num_cpus": 2, "object_store_memory": 100 * 2**20}
    modules = [batch_model, sys.modules[__name__]]
    fleet = Fleet(
        None, store=f"file://{folder}/ray", executor="subprocess", modules=modules, ray_options=options
    )
    async with fleet:
        settings: dict[str, Any] = {"model": lambda: BatchModel("true"), "tools": [], "concurrency": 8}
        _ = [one async for one in fleet.map(["warm up"], **settings)]
        cpu, began = own_cpu_s(), time.perf_counter()
        found = [one async for one in fleet.map([f"t{n}" for n in range(tasks)], name="m", **settings)]
        assert all(one.status == "answered" for one in found)
        found_s, cpu = time.perf_counter() - began, own_cpu_s() - cpu
        session = await fleet.session(Talking, tools=[])
        events_cpu, began, events = own_cpu_s(), time.perf_counter(), 0
        for _ in range(5):
            async for _event in session.run("go"):
                events += 1
        return {
            "task_driver_cpu_ms": 1000 * cpu / tasks,
            "task_ms_8_at_once": 1000 * found_s / tasks,
            "event_driver_cpu_ms": 1000 * (own_cpu_s() - events_cpu) / events,
            "event_ms": 1000 * (time.perf_counter() - began) / events,
        }


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sessions", type=int, default=60)
    parser.add_argument("--files", type=int, default=100)
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--executor", default="native")
    given = parser.parse_args()
    found: dict[str, object] = {
        "load": os.getloadavg()[0],
        "cores": os.cpu_count(),
        "executor": given.executor,
    }
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_STATE_HOME"] = folder
        await sessions_at_once(2, given.executor, None, 0)  # imports, the fork server
        found["sessions without a store"] = await sessions_at_once(
            given.sessions, given.executor, None, given.files
        )
        found["turns without a store"] = await turns(given.executor, None, given.files, given.turns)
        with s3(Path(folder)) as (url, server):
            server.counts()
            found["sessions, S3"] = await sessions_at_once(given.sessions, given.executor, url, given.files)
            found["S3 requests of a session of two turns"] = {
                kind: round(number / given.sessions, 2) for kind, number in server.counts().items()
            }
            found["turns, S3"] = await turns(given.executor, url + "-turns", given.files, given.turns)
            found["S3 requests of two turns"] = {
                kind: round(number / given.turns, 2) for kind, number in server.counts().items()
            }
            journal = MapJournal(url, "m")
            await asyncio.to_thread(journal.open, [])
            server.counts()
            began = time.perf_counter()
            for number in range(50):
                await journal.add(ResultRecord(f"t{number}", "d", "answered", "x" * 500))
            one_by_one = time.perf_counter() - began
            requests = sum(server.counts().values())
            began = time.perf_counter()
            async with asyncio.TaskGroup() as group:
                for number in range(500):
                    group.create_task(journal.add(ResultRecord(f"u{number}", "d", "answered", "x" * 500)))
            found["journal, S3"] = {
                "result_ms": 1000 * one_by_one / 50,
                "requests_of_a_result": requests / 50,
                "500_at_once_ms": 1000 * (time.perf_counter() - began),
                "requests_of_500_at_once": sum(server.counts().values()),
            }
            await asyncio.to_thread(journal.close)
        if importlib.util.find_spec("ray") is not None:
            found["over Ray"] = await over_ray(folder, given.sessions)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    asyncio.run(main())

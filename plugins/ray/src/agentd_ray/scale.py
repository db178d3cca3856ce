"""What a fleet of N nodes holds, and where it saturates: a simulation with measured constants.

    python -m agentd_ray.scale --nodes 10 100 1000          (or: agentd fleet simulate)

Sessions are a closed queueing network. Each goes round: a turn of the model (a rate limit, then its latency), the work
of agentd and of the code on the node's cores, the checkpoint's requests to the store, events to the driver; after some
turns it is closed, and the next task opened. A station serves who comes first. Where there are too many sessions to
simulate, a tenth of them (or less) is, with a tenth of what all nodes share.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import attrs

from agentd_ray.scale_constants import CONSTANTS, ScaleConstants

__all__ = ["FleetShape", "ScaleRow", "report", "simulate"]

_SIMULATED: Final = 2_000  # sessions, at most
_TASKS: Final = 4.0  # that each session does in the time that is simulated; the first half is not counted
_SEED: Final = 7


@attrs.frozen(kw_only=True)
class FleetShape:
    """A fleet and what it does.

    :ivar nodes: machines.
    :ivar cores: of each.
    :ivar memory_gib: of each.
    :ivar per_host: sessions on each at most.
    :ivar turns: rounds of a task.
    :ivar model_s: seconds of the model in a round, at the median (log-normal, sigma 0.5).
    :ivar block_cpu_s: CPU seconds of what the code itself does in a round.
    :ivar tokens: input and output tokens of a round.
    :ivar requests_per_minute: of the model's provider; None for no limit. `tokens_per_minute` likewise.
    :ivar events: that the driver gets of a round: 0 for a map, about 30 where it shows the run.
    :ivar prefixes: parts that S3 has split the store's names into by itself; a new bucket has one.
    :ivar lease_s: of the hosts: three signs of life in that time, for each host.
    """

    nodes: int = 10
    cores: int = 16
    memory_gib: float = 64.0
    per_host: int = 400
    turns: int = 8
    model_s: float = 8.0
    block_cpu_s: float = 0.2
    tokens: int = 8_000
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    events: int = 0
    prefixes: int = 1
    lease_s: float = 3.0

    def places(self, constants: ScaleConstants) -> int:
        """Return how many sessions a node holds: by memory, of which a fifth is left free, and by `per_host`."""
        return min(self.per_host, int(0.8 * self.memory_gib * 1024 / constants.memory_mib))


@attrs.frozen(kw_only=True)
class ScaleRow:
    """What a fleet comes to.

    :ivar turns_per_s: rounds of all sessions.
    :ivar slower: how much longer a task takes than alone.
    :ivar load: of each station, 0 to 1.
    :ivar bound: rounds a second that the busiest station could serve, if it alone were to be waited for.
    """

    nodes: int
    sessions: int
    turns_per_s: float
    tasks_per_hour: float
    slower: float
    store_requests_per_s: float
    load: dict[str, float]
    bound: float

    @property
    def busiest(self) -> str:
        """The station that saturates first."""
        return max(self.load, key=self.load.__getitem__)


class _Station:
    """Serves who comes first, with so many servers; visits come in the order of time."""

    def __init__(self, servers: int = 1) -> None:
        self.free = [0.0] * servers
        self.busy_s = 0.0

    def visit(self, now: float, service_s: float) -> float:
        """Return when a visit that comes now is over."""
        start = max(now, self.free[0])
        heapq.heapreplace(self.free, start + service_s)
        self.busy_s += service_s
        return start + service_s


def demands(shape: FleetShape, constants: ScaleConstants) -> dict[str, float]:
    """Return the seconds of service that a round needs of each station, the opening and closing of its session shared
    among the rounds of a task."""
    share = 1.0 / shape.turns
    writes = constants.turn_writes + share * constants.session_writes
    reads = constants.turn_reads + share * constants.session_reads
    beats = 3 / shape.lease_s * shape.nodes
    writes_per_s = max(1e-9, constants.store_writes_per_s * shape.prefixes - beats)
    cpu_s = constants.turn_cpu_s + shape.block_cpu_s + share * constants.session_cpu_s
    found = {
        "nodes' cores": cpu_s / (shape.cores * shape.nodes),
        "store": writes / writes_per_s + reads / (constants.store_reads_per_s * shape.prefixes),
        "driver": share * constants.task_driver_cpu_s + shape.events * constants.event_driver_cpu_s,
    }
    limits = {"requests_per_minute": 1.0, "tokens_per_minute": float(shape.tokens)}
    rates = [amount * 60 / rate for name, amount in limits.items() if (rate := getattr(shape, name))]
    return found | ({"provider": max(rates)} if rates else {})


def alone_s(shape: FleetShape, constants: ScaleConstants) -> float:
    """Return how long a round takes where nobody else is, as `demands` shares it."""
    share = 1.0 / shape.turns
    cpu_s = constants.turn_cpu_s + shape.block_cpu_s + share * constants.session_cpu_s
    steps = constants.turn_store_steps + share * constants.session_store_steps
    return shape.model_s * math.exp(0.125) + cpu_s + steps * constants.store_latency_s


def simulate(shape: FleetShape, constants: ScaleConstants = CONSTANTS) -> ScaleRow:
    """Return what a fleet comes to in the long run."""
    places = shape.places(constants)
    sessions = places * shape.nodes
    nodes = max(1, min(shape.nodes, _SIMULATED // max(1, places)))
    scale = nodes / shape.nodes
    needed = demands(shape, constants)
    alone = alone_s(shape, constants)
    slowest = max([alone, *(sessions * need for need in needed.values())])
    end = _TASKS * shape.turns * slowest
    count, spent_s, busy = _run(shape, constants, nodes, places, scale, end)
    seconds = end / 2
    turns_per_s = count / seconds / scale
    requests = constants.turn_writes + constants.turn_reads
    requests += (constants.session_writes + constants.session_reads) / shape.turns
    return ScaleRow(
        nodes=shape.nodes,
        sessions=sessions,
        turns_per_s=turns_per_s,
        tasks_per_hour=3600 * turns_per_s / shape.turns,
        slower=(spent_s / count) / alone if count else math.inf,
        store_requests_per_s=turns_per_s * requests + 3 / shape.lease_s * shape.nodes,
        load={name: used / seconds for name, used in busy.items()},
        bound=min(sessions / alone, *(1 / need for need in needed.values() if need)),
    )


def _run(
    shape: FleetShape, constants: ScaleConstants, nodes: int, places: int, scale: float, end: float
) -> tuple[int, float, dict[str, float]]:
    """Simulate; return the rounds of the second half, the seconds that they took, and how busy each station was."""
    chance = random.Random(_SEED)
    cores = [_Station(shape.cores) for _ in range(nodes)]
    shared = {name: _Station() for name in demands(shape, constants) if name != "nodes' cores"}
    steps = list(_steps(shape, constants, scale))
    waiting = [(chance.random() * shape.model_s, number, 0) for number in range(nodes * places)]
    heapq.heapify(waiting)
    begun = [0.0] * (nodes * places)
    count, spent_s, half = 0, 0.0, end / 2
    at_half: dict[str, float] | None = None

    def busy() -> dict[str, float]:
        used = sum(node.busy_s for node in cores) / (shape.cores * nodes)
        return {"nodes' cores": used} | {name: station.busy_s for name, station in shared.items()}

    while True:
        now, number, step = heapq.heappop(waiting)
        if at_half is None and now >= half:
            at_half = busy()
        if now >= end:
            break
        kind, service_s, delay_s = steps[step]
        if kind == "model":
            then = now + chance.lognormvariate(math.log(service_s), 0.5)
        elif kind == "nodes' cores":
            then = cores[number // places].visit(now, service_s)
        else:
            then = shared[kind].visit(now, service_s) + delay_s
        step = (step + 1) % len(steps)
        if step == 0:
            if now >= half:
                count, spent_s = count + shape.turns, spent_s + then - begun[number]
            begun[number] = then
        heapq.heappush(waiting, (then, number, step))
    assert at_half is not None
    return count, spent_s, {name: used - at_half[name] for name, used in busy().items()}


def _steps(shape: FleetShape, constants: ScaleConstants, scale: float) -> Iterator[tuple[str, float, float]]:
    """Yield what a task goes through: the station, the service there, and what passes behind it without a queue."""
    need = demands(shape, constants)
    writes_s, reads_s = (
        1 / (constants.store_writes_per_s * shape.prefixes),
        1 / (constants.store_reads_per_s * shape.prefixes),
    )
    beats = 3 / shape.lease_s * shape.nodes * writes_s  # the part of the store that hosts' signs of life take
    free = max(1e-9, 1 - beats)

    def store(writes: float, reads: float, steps: float) -> tuple[str, float, float]:
        return (
            "store",
            (writes * writes_s / free + reads * reads_s) / scale,
            steps * constants.store_latency_s,
        )

    yield "driver", constants.task_driver_cpu_s / scale, 0.0
    yield "nodes' cores", constants.session_cpu_s, 0.0
    yield store(constants.session_writes, constants.session_reads, constants.session_store_steps)
    for _ in range(shape.turns):
        if "provider" in need:
            yield "provider", need["provider"] / scale, 0.0
        yield "model", shape.model_s, 0.0
        yield "nodes' cores", constants.turn_cpu_s + shape.block_cpu_s, 0.0
        yield store(constants.turn_writes, constants.turn_reads, constants.turn_store_steps)
        if shape.events:
            yield "driver", shape.events * constants.event_driver_cpu_s / scale, 0.0


# --- what is shown ----------------------------------------------------------------------------------------


def report(rows: Sequence[ScaleRow]) -> str:
    """Return rows as a table in Markdown."""
    lines = [
        "| nodes | sessions | turns a second | tasks an hour | a task takes | requests to the store | busiest |",
        "|---:|---:|---:|---:|---:|---:|---|",
    ]
    lines += [
        f"| {row.nodes:,} | {row.sessions:,} | {row.turns_per_s:,.0f} | {row.tasks_per_hour:,.0f} | "
        f"{row.slower:.2f}x | {row.store_requests_per_s:,.0f}/s | "
        f"{row.busiest} {100 * row.load[row.busiest]:.0f} % |"
        for row in rows
    ]
    return "\n".join(lines)


def rows_of(shape: FleetShape, nodes: Sequence[int]) -> list[ScaleRow]:
    """Return a row for each number of nodes."""
    return [simulate(attrs.evolve(shape, nodes=number)) for number in nodes]


def as_data(rows: Sequence[ScaleRow]) -> list[Mapping[str, Any]]:
    """Return rows as plain data."""
    return [{**attrs.asdict(row), "busiest": row.busiest} for row in rows]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table: `python -m agentd_ray.scale`."""
    parser = argparse.ArgumentParser(
        prog="python -m agentd_ray.scale", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--nodes", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--json", action="store_true", help="for programs")
    for field in attrs.fields(FleetShape):
        if field.name != "nodes":
            kind = int if isinstance(field.default, int) else float
            parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=field.default)
    given = vars(parser.parse_args(arguments))
    nodes, as_json = given.pop("nodes"), given.pop("json")
    rows = rows_of(FleetShape(**given), nodes)
    sys.stdout.write((json.dumps(as_data(rows), indent=2) if as_json else report(rows)) + "\n")


if __name__ == "__main__":
    main()

"""The simulation of large fleets: it agrees with what queues must obey, and its documentation says what it says."""

from __future__ import annotations

import re
from pathlib import Path

import attrs
import pytest
from agentd_ray.scale import FleetShape, main, report, rows_of, simulate
from agentd_ray.scale_constants import CONSTANTS

DOCS = (Path(__file__).resolve().parents[2] / "docs" / "scale.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("shape", "busiest"),
    [
        (FleetShape(nodes=4, per_host=20), "nodes' cores"),
        (FleetShape(nodes=4, per_host=200, cores=2), "nodes' cores"),
        (FleetShape(nodes=50, per_host=300), "store"),
        (FleetShape(nodes=20, per_host=100, requests_per_minute=3_000), "provider"),
        (FleetShape(nodes=20, per_host=100, tokens_per_minute=20_000_000), "provider"),
        (FleetShape(nodes=30, per_host=100, prefixes=100, events=300), "driver"),
    ],
)
def test_what_it_finds_agrees_with_the_bounds_of_any_queueing_network(
    shape: FleetShape, busiest: str
) -> None:
    row = simulate(shape)
    assert row.busiest == busiest
    assert 0.85 * row.bound < row.turns_per_s < 1.05 * row.bound
    assert all(0 <= load < 1.05 for load in row.load.values())


def test_far_from_what_it_can_do_a_task_takes_as_long_as_alone() -> None:
    row = simulate(FleetShape(nodes=1, per_host=10))
    assert 0.9 < row.slower < 1.15


def test_a_fleet_that_is_scaled_down_to_be_simulated_comes_to_the_same() -> None:
    free = attrs.evolve(CONSTANTS, task_driver_cpu_s=0.0)
    whole = simulate(FleetShape(nodes=12, per_host=400, requests_per_minute=12_000), free)
    part = simulate(FleetShape(nodes=120, per_host=400, requests_per_minute=120_000, prefixes=10), free)
    assert part.turns_per_s == pytest.approx(10 * whole.turns_per_s, rel=0.05)


def test_signs_of_life_alone_can_take_all_of_a_store() -> None:
    short = simulate(FleetShape(nodes=1000, per_host=10, lease_s=1.0))
    long = simulate(FleetShape(nodes=1000, per_host=10, lease_s=30.0))
    assert short.turns_per_s < 0.5 * long.turns_per_s


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings", [{}, {"prefixes": 16}, {"prefixes": 16, "requests_per_minute": 30_000.0}]
)
def test_the_tables_of_the_documentation_are_what_it_prints(settings: dict[str, float]) -> None:
    rows = rows_of(FleetShape(**settings), [10, 100, 1000])  # type: ignore[arg-type]
    assert report(rows) in DOCS, report(rows)


def test_the_documentation_has_every_constant() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| ([\d.,]+)[^|]* \|", DOCS, re.M))
    told = {name: float(value.replace(",", "")) for name, value in rows.items()}
    assert told == attrs.asdict(CONSTANTS)


def test_it_is_a_program(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--nodes", "2", "--per-host", "5", "--json"])
    assert '"busiest"' in capsys.readouterr().out
    main(["--nodes", "2", "--per-host", "5"])
    assert capsys.readouterr().out.startswith("| nodes | sessions |")

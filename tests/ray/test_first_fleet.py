"""The first fleet of the documentation, as it stands there."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from conftest import run
from places import ROOT
from ray.cluster_utils import Cluster

pytestmark = pytest.mark.timeout(200)


def test_the_first_fleet_of_the_documentation_works_and_goes_on_where_it_was(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    example = runpy.run_path(str(ROOT / "docs" / "examples" / "fleet_local.py"))
    example["main"].__globals__.update(TASKS=4, WORK=example["WORK"].replace("sleep 1; ", ""))
    run(example["main"](cluster.address))
    first = capsys.readouterr().out.splitlines()
    assert first[1:4] == ["one There are 12.", "two There are 12.", "sessions: {'idle': 2}"]
    assert sorted(first[4:]) == sorted(f"task-{number}: answered" for number in range(4))
    run(example["main"](cluster.address))
    again = capsys.readouterr().out.splitlines()
    assert again[1] == "sessions: {'idle': 2}", "their answers are in the store"
    assert sorted(again[2:]) == sorted(f"task-{number}: answered (before)" for number in range(4))

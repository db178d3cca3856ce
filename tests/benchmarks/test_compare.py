"""What `make bench-compare` calls moved. Figures are given; no clock is read."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from endurance.cli import _parser as endurance_parser
from evidence.options import parse as evidence_parse
from rivals.cli import _parser as rivals_parser

from benchmarks.cli import _medians, _parser as benchmarks_parser, _spreads
from benchmarks.compare import compared, main

ROOT = Path(__file__).resolve().parents[2]


def row(ours: float | None, spread: tuple[float, float] | None = None, **more: Any) -> dict[str, Any]:
    row = {"line": "turns", "key": "chat_ms", "title": "20 turns", "unit": "ms", "more": False, "ours": ours}
    return {**row, "spread": {"ours": spread} if spread else {}, **more}


@pytest.mark.parametrize(
    ("a", "b", "verdict"),
    [
        (row(10, (9, 11)), row(20, (18, 22)), "worse"),
        (row(20, (18, 22)), row(10, (9, 11)), "better"),
        (row(10, (9, 15)), row(14, (13, 16)), "same"),  # the ranges overlap
        (row(10, (9.9, 10.1)), row(10.5, (10.4, 10.6)), "same"),  # apart, and less than a tenth
        (row(10), row(12), "same"),  # one round: 25 %
        (row(10), row(13), "worse"),
        (row(10, (9, 11), more=True), row(20, (18, 22), more=True), "better"),
        (row(10, floor_value=5), row(20, floor_value=10), "as its floor: the machine"),
        (row(10, floor_value=5), row(20, floor_value=5), "worse"),
        (row(0), row(1), "worse"),
        (row(0), row(0), "same"),
        (row(-0.4, (-0.5, -0.3)), row(50, (49, 51)), "worse"),  # a difference of two times may be below zero
        (row(-0.4, (-0.9, 0.2)), row(0.1, (-0.3, 0.5)), "same"),
        (row(0, (0, 0)), row(0.01, (0, 0.5)), "same"),
        (row(10, floor_value=-5), row(20, floor_value=-10), "worse"),
        (row(None), row(1), "new"),
        (row(1), row(None), "gone"),
        (row(None), row(None), "no figure"),
    ],
)
def test_a_row_moved_if_its_rounds_lie_apart_and_not_if_the_machine_did(
    a: dict[str, Any], b: dict[str, Any], verdict: str
) -> None:
    assert [found.verdict for found in compared({"rows": [a]}, {"rows": [b]})] == [verdict]


def test_the_benchmarks_keep_the_range_of_their_rounds() -> None:
    rounds = [{"a": 3.0, "b": None}, {"a": 1.0, "b": 5.0}, {"a": 2.0}]
    assert _medians(rounds) == {"a": 2.0, "b": 5.0}
    assert _spreads(rounds) == {"a": (1.0, 3.0)}


def test_the_command_prints_what_moved_and_ends_with_0(tmp_path: Path) -> None:
    a, b = tmp_path / "a.json", tmp_path / "b.json"
    a.write_text(json.dumps({"rows": [row(10, (9, 11)), row(5, key="stream_ms", title="  streamed")]}))
    b.write_text(json.dumps({"rows": [row(20, (18, 22)), row(5, key="stream_ms", title="  streamed")]}))
    script = Path(__file__).with_name("compare.py")
    done = subprocess.run(
        [sys.executable, script, a, b], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stderr
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert lines[2:] == ["turns: 20 turns 10 ms 20 ms 0.5x worse", "1 of 2 rows moved beyond noise"]


def test_rows_that_one_file_alone_has_are_not_counted_as_moved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = tmp_path / "a.json", tmp_path / "b.json"
    a.write_text(json.dumps({"rows": [row(10), row(5, key="a_ms"), row(5, key="b_ms")]}))
    b.write_text(json.dumps({"rows": [row(10), row(None, key="a_ms")]}))
    assert main([str(a), str(b)]) == 0
    said = capsys.readouterr().out.splitlines()[-1]
    assert said == "0 of 1 rows moved beyond noise; 2 more have a figure in one file alone"


def test_as_json_it_has_every_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"rows": [row(10)]}))
    assert main([str(path), str(path), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["line"], found["factor"], found["verdict"]) == ("turns", 1.0, "same")


def test_two_artifacts_of_the_workflow_are_compared_as_they_are_downloaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/benchmarks.yml").read_text())
    (job,) = workflow["jobs"].values()
    before, now, packed = tmp_path / "before", tmp_path / "now", tmp_path / "bench.zip"
    for folder, ours in ((before, 10), (now, 20)):
        folder.mkdir()
        data = {"rows": [row(ours)], "machine": {"quick": folder is before}}
        (folder / f"{job['strategy']['matrix']['target'][0]}.json").write_text(json.dumps(data))
    with zipfile.ZipFile(packed, "w") as archive:
        archive.write(now / "bench.json", "bench.json")
    for b in (now, packed):
        assert main([str(before), str(b)]) == 0
        said = capsys.readouterr().out
        assert "1 of 1 rows moved beyond noise" in said
        assert "A is a quick run, the other is not" in said
    (now / "other.json").write_text("{}")
    assert main([str(before), str(now)]) == 2
    assert f"{now}: has 2 JSON files, must have one" in capsys.readouterr().err


def test_the_workflow_gives_the_benchmarks_arguments_that_they_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / ".github/workflows/benchmarks.yml").read_text()
    (arguments,) = re.findall(r'make "\$TARGET" ARGS="(.*)"', text)
    words = arguments.replace("$TARGET", "bench").split()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "now").mkdir()
    assert benchmarks_parser().parse_args(words).json == Path("now/bench.json")
    assert rivals_parser().parse_args(words).json == Path("now/bench.json")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "make bench"),
        ("{", "was it cut off? write the file anew with `make bench`"),
        ("", "was it cut off?"),
        (json.dumps({"rows": [row(None), row(1)]}), "has two rows turns: chat_ms"),
        (json.dumps({"rows": [row(float("nan"))]}), "rows[0].ours and floor_value must be numbers"),
        (json.dumps({"rows": [row(1, floor_value="2")]}), "rows[0].ours and floor_value must be numbers"),
        (json.dumps({"rows": [row(1, spread={"ours": [1]})]}), "rows[0].spread.ours must be two numbers"),
        (json.dumps({"rows": [row(1)], "machine": None}), "machine must be an object"),
        ("[]", "rows"),
        ('{"rows": [3]}', "rows[0] is not an object"),
        ('{"rows": [{"line": "turns", "key": "chat_ms", "ours": 1}]}', "rows[0] lacks title, unit, more"),
    ],
)
def test_a_file_that_is_none_is_named_with_what_it_must_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None, said: str
) -> None:
    path = tmp_path / "x.json"
    if text is not None:
        path.write_text(text)
    assert main([str(path), str(path)]) == 2
    error = capsys.readouterr().err
    assert str(path) in error
    assert said in error


@pytest.mark.parametrize(
    "parse",
    [
        benchmarks_parser().parse_args,
        rivals_parser().parse_args,
        evidence_parse,
        endurance_parser().parse_args,
    ],
    ids=["bench", "bench-rivals", "evidence", "endurance"],
)
def test_a_file_that_cannot_be_written_is_told_before_anything_is_measured(
    parse: Callable[[list[str]], argparse.Namespace], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path, said in (
        (tmp_path / "no" / "x.json", f"there is no folder {tmp_path / 'no'}"),
        (tmp_path, "is a folder"),
    ):
        with pytest.raises(SystemExit, match="2"):
            parse(["--json", str(path)])
        error = capsys.readouterr().err
        assert "argument --json: " in error
        assert said in error
    assert parse(["--json", str(tmp_path / "x.json")]).json == tmp_path / "x.json"


def test_files_of_two_machines_or_versions_are_compared_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = {"python": "3.11.7", "system": "Linux", "cpus": 2}
    a, b = tmp_path / "a.json", tmp_path / "b.json"
    a.write_text(json.dumps({"rows": [row(10)], "machine": machine}))
    b.write_text(json.dumps({"rows": [row(10)], "machine": machine | {"python": "3.13.1", "cpus": 16}}))
    told = [
        "another Python, which moves rows as well: A 3.11.7, B 3.13.1",
        "another number of processors, which moves rows as well: A 2, B 16",
    ]
    assert main([str(a), str(b)]) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == told
    assert main([str(a), str(b), "--json"]) == 0
    assert capsys.readouterr().err.splitlines() == told
    assert main([str(a), str(a)]) == 0
    assert "another" not in capsys.readouterr().out


def test_files_without_a_common_row_are_not_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = tmp_path / "bench.json", tmp_path / "rivals.json"
    a.write_text(json.dumps({"rows": [row(10)]}))
    b.write_text(json.dumps({"rows": [row(10, line="jupyter")]}))
    assert main([str(a), str(b)]) == 2
    error = capsys.readouterr().err
    assert f"{a} has turns" in error
    assert f"{b} has jupyter" in error
    assert "`make bench-rivals`" in error
    b.write_text('{"rows": []}')
    assert main([str(a), str(b)]) == 2
    assert f"{b} has none" in capsys.readouterr().err

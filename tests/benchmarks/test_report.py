"""The benchmarks' verdicts, and that every line can be run. No clock is asserted."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import cli
from benchmarks.cli import LINES, _measure, main
from benchmarks.line import SIDES, Line, Row
from benchmarks.report import Entry, Result, as_json, as_markdown, print_table


@pytest.mark.parametrize("name", LINES)
def test_every_line_has_rows_and_sides_and_says_what_it_measures(name: str) -> None:
    module = importlib.import_module(f"benchmarks.lines.{name}")
    assert isinstance(module.LINE, Line)
    assert module.LINE.name == name
    assert module.LINE.rows
    assert len({row.key for row in module.LINE.rows}) == len(module.LINE.rows)
    for word in ("ours", "theirs", "floor"):
        assert word in (module.__doc__ or "").lower()
    for side in SIDES:
        assert callable(getattr(module, side))


def test_each_row_with_a_target_is_in_the_page_or_its_line_is_said_not_to_be() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "performance.md"
    table, _, rest = page.read_text().partition("Rows that came after this run are not in it:")
    absent = {
        name
        for name in LINES
        for row in importlib.import_module(f"benchmarks.lines.{name}").LINE.rows
        if Entry(name, row, None, None, None).target and f"| {row.title.strip()} |" not in table
    }
    assert set(re.findall(r"`(\w+)`", rest.partition(". `make bench")[0])) == absent


@pytest.mark.parametrize(
    ("row", "ours", "theirs", "floor", "reached"),
    [
        (Row(key="k", title="", unit="ms", ratio=10), 5.0, 50.0, None, True),
        (Row(key="k", title="", unit="ms", ratio=10), 5.1, 50.0, None, False),
        (Row(key="k", title="", unit="ms", ratio=10, floor=4), 5.0, 50.0, 1.0, False),
        (Row(key="k", title="", unit="calls/s", more=True, ratio=8), 80.0, 10.0, None, True),
        (Row(key="k", title="", unit="calls/s", more=True, ratio=8), 79.0, 10.0, None, False),
        (Row(key="k", title="", unit="MB/s", more=True, limit=120), 119.0, None, None, False),
        (Row(key="k", title="", unit="MiB", limit=40), 40.0, None, None, True),
        (Row(key="k", title="", unit="", limit=0), 0.0, 1.0, None, True),
        (Row(key="k", title="", unit="ms", ratio=10), 5.0, None, None, None),
        (Row(key="k", title="", unit="ms"), 5.0, 50.0, None, None),
        (
            Row(key="k", title="", unit="ms", ratio=2, floor=2),
            5.0,
            50.0,
            1.0,
            False,
        ),  # one number, two meanings
        (
            Row(key="k", title="", unit="ms", ratio=2, limit=4),
            5.0,
            None,
            None,
            False,
        ),  # missed, whatever is missing
        (Row(key="k", title="", unit="ms", ratio=2, limit=6), 5.0, None, None, None),
        (Row(key="k", title="", unit="ms", floor=1.5), 5.0, None, -1.0, None),  # a difference below zero
        (Row(key="k", title="", unit="ms", ratio=2), -5.0, -50.0, None, None),
        (Row(key="k", title="", unit="ms", floor=1.5), 5.0, None, 0.0, None),
        (Row(key="k", title="", unit="ms", limit=5), -0.4, None, None, True),
    ],
)
def test_a_target_is_reached_when_every_part_of_it_is(
    row: Row, ours: float, theirs: float | None, floor: float | None, reached: bool | None
) -> None:
    assert Entry("line", row, ours, theirs, floor).reached is reached


def test_the_table_is_plain_when_piped_and_the_json_has_every_row(capsys: pytest.CaptureFixture[str]) -> None:
    line = Line(name="demo", rows=(Row(key="a_ms", title="a thing", unit="ms", ratio=2, floor=4),))
    result = Result(
        line, {"ours": {"a_ms": 1.5}, "theirs": {"a_ms": 6.0}, "floor": {"a_ms": 1.0}}, ["a note"]
    )
    print_table([result])
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    shown = " ".join(printed.splitlines()[2].split())
    assert shown == "a thing 1.5 ms 6 ms 1 ms 4x 1.5x >= 2x, <= 4x floor yes"
    assert "demo: a note" in printed
    rows = as_json([result], {})["rows"]
    assert isinstance(rows, list)
    (row,) = rows
    assert as_markdown([result]).splitlines()[2:] == [
        "| a thing | 1.5 ms | 6 ms | 4x | >= 2x, <= 4x floor | yes |"
    ]
    assert row["times_theirs"] == 4.0
    assert row["reached"] is True


def test_a_side_that_fails_is_reported_and_does_not_fail_the_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho it broke >&2\nexit 3\n")
    broken.chmod(0o755)
    arguments = ["--only", "bash_flood", "--sides", "theirs", "--quick", "--reference-python", str(broken)]
    assert main(arguments) == 0
    assert "bash_flood: theirs failed: exit code 3 it broke" in capsys.readouterr().out
    broken.write_text("#!/bin/sh\necho bye\n")
    assert main(arguments) == 0
    assert "bash_flood: theirs failed: its last line has no figures" in capsys.readouterr().out
    broken.unlink()
    assert main(arguments) == 0
    assert f"bash_flood: theirs failed: {broken} cannot be started: No such file" in capsys.readouterr().out


def test_what_is_no_number_is_not_measured_and_told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    strange = tmp_path / "python"
    strange.write_text("""#!/bin/sh\necho '{"figures": {"share": NaN}, "notes": []}'\n""")
    strange.chmod(0o755)
    line = Line(name="prompt_bytes", rows=(Row(key="share", title="share", unit="x", limit=2),))
    result = _measure(line, ("theirs",), {"theirs": strange}, quick=True)
    assert result.figures == {"theirs": {"share": None}}
    print_table([result])
    assert "prompt_bytes: theirs gave no number for share" in capsys.readouterr().out


@pytest.mark.slow
def test_a_line_whose_reference_cannot_be_installed_measures_the_other_sides() -> None:
    def refuse() -> None:
        raise RuntimeError("there is no npm")

    line = Line(
        name="prompt_bytes",
        rows=(Row(key="share", title="", unit="x"),),
        prepare_theirs=refuse,
    )
    pythons = {side: Path(sys.executable) for side in SIDES}
    result = _measure(line, ("ours", "theirs"), pythons, quick=True)
    assert result.notes == ["theirs was not measured: there is no npm"]
    assert result.figures["ours"]
    assert result.figures["theirs"] == {}


def test_without_the_old_version_it_says_how_to_measure_the_rest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> Path:
        raise subprocess.CalledProcessError(1, "pip")

    monkeypatch.setattr(cli, "reference_python", refuse)
    assert main(["--only", "sinks"]) == 2
    assert "--sides ours floor does without" in capsys.readouterr().err

    def stop() -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "reference_python", stop)
    assert main(["--only", "sinks"]) == 130
    assert "was not installed yet" in capsys.readouterr().err


def test_progress_is_told_and_ctrl_c_leaves_the_figures_of_what_was_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def measured(line: Line, *_: object, **__: object) -> Result:
        if line.name == "turns":
            raise KeyboardInterrupt
        return Result(line, {"ours": {line.rows[0].key: 1.5}})

    monkeypatch.setattr(cli, "_measure", measured)
    target = tmp_path / "figures.json"
    assert main(["--only", "sinks", "turns", "daemon", "--sides", "ours", "--json", str(target)]) == 130
    said = capsys.readouterr().err
    assert "row 1 of 3: sinks" in said
    assert "row 2 of 3: turns" in said
    assert "stopped: this is the table of what was measured so far" in said
    figures = target.read_text()
    assert {row["line"] for row in json.loads(figures)["rows"]} == {"sinks"}
    assert main(["--only", "turns", "--sides", "ours", "--json", str(target)]) == 130
    assert "stopped: nothing was measured yet" in capsys.readouterr().err
    assert target.read_text() == figures
    target.unlink()
    target.symlink_to("/dev/full")
    assert main(["--only", "sinks", "--sides", "ours", "--json", str(target)]) == 1
    said = capsys.readouterr().err
    assert f"{target} could not be written: No space left on device" in said
    elsewhere = Path(said.split()[-1])
    assert "sinks" in elsewhere.read_text()
    elsewhere.unlink()

"""The tables and the command of `make evidence`, on results that are given. Nothing is replayed."""

from __future__ import annotations

import importlib
import json
import sys
import types
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from evidence import charts, report
from evidence.cases import DataSet
from evidence.curve import Cell, cells
from evidence.objections import KNOWN, KnownObjection, Sorted, sort
from evidence.options import NAMES
from evidence.plan import CALLS, OFFERED
from evidence.replay import Replayed
from evidence.results import Results
from evidence.tokens import Meter
from evidence.ways import WAYS, Way

RUN = Path(__file__).with_name("run.py")


def entry(way: Way, calls: int, tokens: int, objection: str = "") -> dict[str, Any]:
    found = Replayed(
        case=f"case{calls}",
        data_set="shop",
        way=way,
        offered=3,
        calls=calls,
        turns=1,
        spent=Meter(len).spent,
        searches=0,
        objection=objection,
        seconds=0.1,
    )
    made = attrs.asdict(found)
    made["spent"] |= {"requests": 2, "bytes": 10, "sent": tokens, "cached": tokens // 2, "written": 1}
    return made


def findings(objection: str = "") -> report.Findings:
    tokens: dict[Way, Callable[[int, int], int]] = {
        "code": lambda tools, calls: 3000 + 2 * tools,
        "code-stepwise": lambda tools, calls: 3000 * calls,
        "json": lambda tools, calls: 100 * tools * (calls + 1),
        "json-parallel": lambda tools, calls: 100 * tools,
    }
    found = [
        (tools, calls, way, entry(way, calls, tokens[way](tools, calls)))
        for tools in OFFERED
        for calls in CALLS
        for way in WAYS
    ]
    return report.Findings(
        table={"shop": {"code": [entry("code", 5, 900)], "json": [entry("json", 5, 3000, objection)]}},
        cells=cells(found),
        attacks={
            False: Counter({"user's calls": 5, "user's calls, made": 5}),
            True: Counter({"user's tasks": 3, "user's calls": 5, "user's calls, asked about": 2}),
        },
        tasks={"shop": 1},
        made_of={"bfcl-eval": "1", "sources": "abc"},
        date="2026-11-30",
        is_quick=False,
    )


def test_the_tables_say_what_was_found(tmp_path: Path) -> None:
    text = report.markdown(findings())
    assert "The full run of 2026-11-30: bfcl-eval 1." in text
    assert "| 901 / 3,001 = 0.30x |" in text
    assert "| 100 tools | 0.16x | 0.08x | 0.03x | 0.01x |" in text
    assert "* tokens: 0.03x, at most 0.35x was wanted (reached)" in text
    assert "* requests: 1.00x, at most 0.5x was wanted (missed)" in text
    assert "* tokens, 3 tools: JSON wins up to 8.9 calls a task, code from there" in text
    assert "* tokens, 1,000 tools: code wins from the first call" in text
    assert "| of them asked about | 0 | 2 |" in text
    assert "objected" not in text
    assert report.target_table(findings()).splitlines()[2:] == [
        "|  | wanted | measured | reached |",
        "| --- | --- | --- | --- |",
        "| tokens of code / of JSON, 100 tools, about 10 calls | at most 0.35x | 0.03x | yes |",
        "| requests of code / of JSON, 100 tools, about 10 calls | at most 0.5x | 1.00x | no |",
    ]
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- evidence -->\nold\n<!-- evidence -->\nafter\n")
    report.write_page(page, "new")
    assert page.read_text() == "before\n<!-- evidence -->\nnew\n<!-- evidence -->\nafter\n"
    page.write_text("<!-- evidence -->")
    with pytest.raises(ValueError, match="must have <!-- evidence --> and <!-- evidence --> around"):
        report.write_page(page, "new")


def test_what_a_checker_objects_to_stands_in_the_tables() -> None:
    found = findings("the basket is empty")
    assert found.objections.unknown == ["case5 as json: the basket is empty"]
    assert "The checkers objected: case5 as json: the basket is empty." in report.markdown(found)
    assert "| 1, 0 |" in report.data_set_table(found)


def test_a_known_objection_is_told_with_its_reason_and_an_unknown_one_or_none_at_all_as_such() -> None:
    known = KnownObjection(
        case="case3", says="turn 1: the basket", reason="the gold calls take what is not there"
    )
    met = [entry("code", 3, 9, "turn 1: the basket is full"), entry("json", 3, 9, "turn 1: the basket has 3")]
    found = sort([*met, *met, entry("code", 5, 9)], [known])
    assert found == Sorted([], {known: ["code", "json"]}, [])
    found = sort([met[0], entry("json", 3, 9), entry("json-parallel", 3, 9)], [known])
    assert (found.known, found.gone) == ({known: ["code"]}, ["case3 as json"])
    found = sort(
        [entry("code", 3, 9, "turn 0: it was cut short"), entry("json", 5, 9, "the basket")], [known]
    )
    assert found.unknown == ["case3 as code: turn 0: it was cut short", "case5 as json: the basket"]
    assert (found.known, found.gone) == ({}, [])


def test_each_known_objection_of_the_data_sets_stands_in_the_tables_with_its_reason() -> None:
    said = [entry("code", 5, 900, f"{one.says} and more") | {"case": one.case} for one in KNOWN]
    text = report.markdown(attrs.evolve(findings(), table={"shop": {"code": said, "json": said}}))
    assert all(f"* `{one.case}` as code: {one.reason}." in text for one in KNOWN)
    assert "The checkers objected" not in text


def test_a_run_that_was_stopped_says_how_many_tasks_it_has() -> None:
    found = attrs.evolve(findings(), tasks={"shop": 3})
    assert "A part of the full run of 2026-11-30" in report.markdown(found)
    assert "| shop | 1 of 3 |" in report.data_set_table(found)
    for more in ({"missing": 1}, {"only": ["shop"]}, {"tasks": {"shop": 1, "a set without a case": 0}}):
        assert "A part of the full run of" in report.markdown(attrs.evolve(findings(), **more))


def test_without_agentdojo_nothing_is_said_of_injected_tasks() -> None:
    assert "3 users' tasks, each with every injected task" in report.markdown(findings())
    found = attrs.evolve(findings(), attacks={False: Counter(), True: Counter()})
    assert "njected" not in report.markdown(found)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The command's module, with data sets that have no case, and folders of its own."""
    sets = [DataSet(name, name, lambda: iter(()), dict) for name in NAMES]
    modules = {"bfcl": {"BFCL": sets[0]}, "tau2": {"TAU2": tuple(sets[1:4])}, "dojo": {"DOJO": sets[4]}}
    for name, has in modules.items():
        module = types.ModuleType(f"evidence.{name}")
        vars(module).update(has)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.delitem(sys.modules, "evidence.cli", raising=False)
    cli = importlib.import_module("evidence.cli")
    monkeypatch.delitem(sys.modules, "evidence.cli")
    for name, value in {"ROOT": tmp_path, "PAGE": tmp_path / "page.md", "made_of": dict}.items():
        monkeypatch.setattr(cli, name, value)
    return cli


def test_ctrl_c_says_how_many_results_are_kept_and_that_the_command_goes_on(
    command: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def interrupted(size: Any, results: Results, *_: Any, **__: Any) -> None:
        results.put("a", {})
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "find", interrupted)
    assert command.main([]) == 130
    assert "stopped; results that are kept: 1. The same command goes on" in " ".join(
        capsys.readouterr().out.split()
    )


def test_results_are_of_all_that_a_replay_runs_on(command: Any, tmp_path: Path) -> None:
    parts = (
        "core",
        *(f"plugins/{name}" for name in ("runner", "history", "executor-subprocess", "model-openai")),
    )
    files = [tmp_path / part / "src" / "some" / "code.py" for part in parts]
    for file in files:
        file.parent.mkdir(parents=True)
        file.touch()
    assert {*files, RUN.with_name("replay.py"), RUN.with_name("requirements.txt")} <= set(command.sources())


def test_results_that_are_not_used_and_end_states_that_differ_are_told(
    command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def found(*_: Any, **__: Any) -> report.Findings:
        return findings("the basket is empty")

    monkeypatch.setattr(command, "find", found)
    Results(tmp_path / ".cache" / "evidence" / "results.jsonl", {"sources": "before"}).put("a", {})
    command.PAGE.write_text("<!-- evidence -->\nold\n<!-- evidence -->\n")
    figures = tmp_path / "figures.json"
    figures.symlink_to("/dev/full")
    assert command.main(["--write", "--json", str(figures)]) == 1
    captured = capsys.readouterr()
    said = "".join(captured.out.split())
    assert "resultsofotherversionsorsourcesarenotused;theyarekeptin" in said
    assert "nothingiswritten,asreplayswerecutshort" in said
    assert "old" in command.PAGE.read_text()
    assert f"{figures} could not be written: No space left on device" in captured.err
    Path(captured.err.split()[-1]).unlink()


def test_a_part_is_not_put_into_the_documentation(
    command: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def stopped(*_: Any, **__: Any) -> report.Findings:
        return attrs.evolve(findings(), missing=7)

    monkeypatch.setattr(command, "find", stopped)
    command.PAGE.write_text("<!-- evidence -->\nold\n<!-- evidence -->\n")
    assert command.main(["--write", "--so-far"]) == 2
    assert "nothing is written, as 7 replays have no result yet" in " ".join(capsys.readouterr().out.split())
    assert "old" in command.PAGE.read_text()


def test_the_charts_are_the_same_bytes_each_time_and_keep_their_text(tmp_path: Path) -> None:
    light, dark = charts.draw(findings().cells, tmp_path)
    first = light.read_bytes()
    assert (light.name, dark.name) == ("evidence-light.svg", "evidence-dark.svg")
    assert b"tokens in and out" in first
    assert b"1,000 tools" in first
    assert first != dark.read_bytes()
    charts.draw(findings().cells, tmp_path)
    assert light.read_bytes() == first


def test_a_cell_compares_the_same_cases() -> None:
    cell = Cell(10, 3, {"code": [entry("code", 3, 9)], "json": [entry("json", 3, 19)]})
    assert (cell.cases, cell.mean_calls) == (1, 3)
    assert cell.ratio("tokens") == 0.5
    assert json.dumps(attrs.asdict(cell))

"""The harness of `make evidence`, on a tiny data set of its own. The real ones are not installed here."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
import types
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
from agentd.types import ToolSpec

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from evidence import charts, report
from evidence.cases import Case, DataSet, GoldCall, GoldTurn
from evidence.curve import Cell, cells, crossing
from evidence.objections import KNOWN, KnownObjection, Sorted, sort
from evidence.options import NAMES
from evidence.others import all_others
from evidence.plan import CALLS, EXPLAINED, OFFERED, Job, curve_jobs, spread, table_jobs
from evidence.replay import Replayed, replay
from evidence.results import Results
from evidence.tokens import Meter, as_typescript
from evidence.ways import USUAL, WAYS, Known, Way, answers

pytestmark = pytest.mark.anyio

RUN = Path(__file__).with_name("run.py")


def command_alone(root: Path) -> Path:
    """Copy what runs before the environment is there into a tree without one, and return its folder."""
    copy = root / "tests" / "evidence"
    copy.mkdir(parents=True)
    for name in ("__init__.py", "run.py", "environment.py", "options.py"):
        shutil.copy(RUN.with_name(name), copy)
    (root / "tests" / "support").mkdir()
    shutil.copy(RUN.parents[1] / "support" / "output_file.py", root / "tests" / "support")
    return copy


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--help"], 0, "tau2 airline"),
        (["--json", "none/x.json"], 2, "there is no folder none"),
        (["--only", "retial"], 2, "no data set has 'retial' in its name; there are: bfcl,"),
    ],
    ids=["help", "a file in no folder", "a name that is wrong"],
)
def test_help_and_mistakes_are_told_before_the_environment_is_made(
    tmp_path: Path, arguments: list[str], code: int, told: str
) -> None:
    copy = command_alone(tmp_path)
    done = subprocess.run(
        [sys.executable, str(copy / "run.py"), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code
    assert told in " ".join((done.stdout + done.stderr).split())
    assert not (tmp_path / ".cache").exists()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def spec(name: str, source: str = "shop", **properties: str) -> ToolSpec:
    fields = {key: {"type": kind, "description": f"what {key} is"} for key, kind in properties.items()}
    schema = {"type": "object", "properties": fields, "required": list(fields)}
    return ToolSpec(name=name, description=f"Do {name}.", input_schema=schema, source=source)


BASKET = (spec("put", item="string", number="integer"), spec("take", item="string"))
LATER = spec("pay", card="string")


class Shop:
    """A basket. `pay` is there from the third turn on."""

    def __init__(self, wanted: Sequence[Mapping[str, int]]) -> None:
        self.wanted = wanted
        self.basket: dict[str, int] = {}
        self.can_pay = False

    def specs(self) -> list[ToolSpec]:
        return [*BASKET, LATER] if self.can_pay else [*BASKET]

    def begin(self, turn: int) -> bool:
        changed, self.can_pay = turn == 2 and not self.can_pay, turn >= 2
        return changed

    def call(self, name: str, arguments: Mapping[str, Any]) -> object:
        if name == "put":
            self.basket[arguments["item"]] = self.basket.get(arguments["item"], 0) + arguments["number"]
        elif name == "take":
            self.basket.pop(arguments["item"])
        else:
            self.basket = {}
        return dict(self.basket)

    def end(self, turn: int) -> str:
        return "" if self.basket == self.wanted[turn] else f"turn {turn}: the basket has {self.basket}"


WANTED = ({"tea": 3}, {"milk": 1}, {})
SHOPPING = Case(
    id="shopping",
    data_set="shop",
    turns=[
        GoldTurn(
            "Three teas, one after the other.",
            [GoldCall("put", {"item": "tea", "number": 1}), GoldCall("put", {"item": "tea", "number": 2})],
        ),
        GoldTurn(
            "Rather milk.",
            [GoldCall("put", {"item": "milk", "number": 1}), GoldCall("take", {"item": "tea"})],
        ),
        GoldTurn("Pay.", [GoldCall("pay", {"card": "it's mine"})]),
    ],
    world=lambda: Shop(WANTED),
    instructions="You serve a shop.",
)
DATA_SET = DataSet("shop", "here", lambda: iter([SHOPPING]), lambda: {"shop": [*BASKET, LATER]})
WAREHOUSE = DataSet(
    "warehouse",
    "here",
    lambda: iter(()),
    lambda: {"warehouse": [spec(f"store_{place}", "warehouse", shelf="integer") for place in range(40)]},
)


@pytest.mark.parametrize(
    ("way", "requests"), [("code", 7), ("code-stepwise", 9), ("json", 8), ("json-parallel", 6)]
)
async def test_a_case_ends_as_its_checker_wants_it_in_every_way(way: Way, requests: int) -> None:
    found = await replay(SHOPPING, way, len)
    assert (found.objection, found.spent.requests, found.calls, found.turns) == ("", requests, 5, 3)
    assert found.offered == 3
    assert found.searches == way.startswith("code"), "the tool that came later was in no prompt"


async def test_an_end_state_that_is_wrong_is_told_and_ends_the_replay() -> None:
    wrong = attrs.evolve(SHOPPING, world=lambda: Shop([{"tea": 3}, {"milk": 2}, {}]))
    for way in WAYS:
        found = await replay(wrong, way, len)
        assert found.objection == "turn 1: the basket has {'milk': 1}"


async def test_with_many_tools_code_looks_up_what_the_prompt_does_not_show() -> None:
    others = {"depot": [spec(f"look_into_{n}_of_the_depot", "depot", a="string") for n in range(700)]}
    found = await replay(SHOPPING, "code", len, others=others)
    assert (found.objection, found.offered) == ("", 703)
    assert found.searches == 3, "put, take and pay: in a turn each"
    beside = await replay(SHOPPING, "json", len, others=others)
    assert beside.spent.sent > 10 * found.spent.sent


async def test_only_chosen_tools_are_on_offer() -> None:
    others = all_others([DATA_SET, WAREHOUSE], iter([spec("put"), spec("weigh"), spec("weigh")]))
    filled = others.fill(SHOPPING, 10)
    assert filled is not None
    chosen, more = filled
    assert chosen == {"put", "take", "pay"}
    assert {name: len(specs) for name, specs in more.items()} == {"warehouse": 7}
    found = await replay(SHOPPING, "json", len, chosen=chosen, others=more)
    assert (found.objection, found.offered) == ("", 10)
    assert others.fill(SHOPPING, 2) is None, "its gold calls need three"
    assert [len(specs) for specs in others.sources.values()] == [3, 40, 1], "a name is taken once"
    with pytest.raises(AssertionError, match="only 44 tools"):
        others.fill(SHOPPING, 1000)


def body(*said: str, tools: int = 0) -> dict[str, Any]:
    messages = [{"role": "user", "content": text} for text in said]
    offered = [{"type": "function", "function": {"name": f"t{n}", "parameters": {}}} for n in range(tools)]
    return {"messages": messages, "tools": offered}


def test_what_a_request_shares_with_the_one_before_it_is_cached() -> None:
    meter = Meter(len)
    meter.request(body("one"), 1)
    first = meter.spent.sent
    assert (first, meter.spent.cached) == (len("user\none") + 3, 0)
    meter.request(body("one", "two"), 1)
    assert meter.spent.cached == first
    meter.request(body("other", "two"), 1)
    assert meter.spent.cached == first, "what stands behind a difference is not cached"


def test_tools_stand_before_the_messages_so_a_new_one_spoils_the_cache() -> None:
    meter = Meter(len)
    meter.request(body("one", tools=1), 1)
    alone = meter.spent.tools
    meter.request(body("one", tools=2), 1)
    assert meter.spent.tools == alone + 2 * alone
    assert meter.spent.cached == alone, "the first tool, and not the message"


def test_tools_are_shorter_as_typescript() -> None:
    schema = {
        "properties": {
            "place": {"type": "string", "description": "a town"},
            "unit": {"enum": ["C", "F"], "default": "C"},
            "days": {"type": "array", "items": {"type": "object", "properties": {"n": {"type": "integer"}}}},
        },
        "required": ["place"],
    }
    tools = [
        {"function": {"name": "now", "description": "Tell the time.", "parameters": {}}},
        {"function": {"name": "weather", "parameters": schema}},
    ]
    assert as_typescript(tools).splitlines() == [
        "namespace functions {",
        "// Tell the time.",
        "type now = () => any;",
        "type weather = (_: {",
        "// a town",
        "place: string,",
        'unit?: "C" | "F", // default: C',
        "days?: {",
        "n?: number,",
        "}[],",
        "}) => any;",
        "} // namespace functions",
    ]
    assert as_typescript([]) == ""


def test_signatures_are_known_from_the_prompt_and_from_a_search() -> None:
    known = Known()
    known.read("Tools by skill:\nshop:\n- put(item: str, number: int): Do put.\n- take: Do take.")
    assert known.missing(["put", "take", "put"]) == ["take"]
    known.read("shop  take(item: str)  - Do take.")
    assert known.missing(["put", "take"]) == []
    assert answers("code", GoldTurn("", []), known) == ["Done."]


def test_results_go_on_behind_a_line_that_was_cut(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    results = Results(path, {"data": "1"})
    results.put("a", {"n": 1})
    results.put("b", {"n": 2})
    path.write_text(path.read_text()[:-5])
    again = Results(path, {"data": "1"})
    assert (again.get("a"), again.get("b")) == ({"n": 1}, None)
    again.put("b", {"n": 3})
    assert Results(path, {"data": "1"}).get("b") == {"n": 3}
    assert Results(path, {"data": "2"}).get("a") is None, "another version of the data"
    assert Results(path, {"data": "2"}, fresh=True).get("b") is None


def test_a_plan_has_each_case_in_both_usual_ways_and_the_curve_in_all() -> None:
    some = [attrs.evolve(SHOPPING, id=str(n)) for n in range(10)]
    assert [(j.case.id, j.way) for j in table_jobs(some, 2)] == [
        ("0", "code"), ("0", "json"), ("5", "code"), ("5", "json")
    ]  # fmt: skip
    assert list(curve_jobs(some, 2)) == [], "five calls are in no column"
    three = attrs.evolve(SHOPPING, turns=SHOPPING.turns[1:])
    jobs = list(curve_jobs([three], 2))
    assert {(j.offered, j.column, j.way) for j in jobs} == {
        (n, 3, way) for n in OFFERED for way in (WAYS if n in EXPLAINED else USUAL)
    }
    assert spread(range(10), 3) == [0, 3, 6]  # type: ignore[arg-type]
    assert Job(three, "json", 30).key == "shopping/json/30"


@pytest.mark.parametrize(
    ("points", "where"),
    [
        ([(1, 2.0), (4, 0.5)], 2.0),
        ([(1, 0.9), (3, 0.5)], None),
        ([(1, 2.0), (3, 1.5)], None),
        ([(1, 2.0), (3, 1.0), (10, 0.5)], 3.0),
    ],
)
def test_json_wins_up_to_where_the_ratio_falls_to_one(
    points: list[tuple[float, float]], where: float | None
) -> None:
    assert crossing(points) == (None if where is None else pytest.approx(where))


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


def test_an_environment_that_pip_cannot_make_is_told_without_a_traceback(tmp_path: Path) -> None:
    copy = command_alone(tmp_path)
    root = RUN.parents[2]
    for project in (root / "core", *(root / "plugins").iterdir()):
        if (project / "pyproject.toml").is_file():
            folder = tmp_path / project.relative_to(root)
            folder.mkdir(parents=True)
            shutil.copy(project / "pyproject.toml", folder)
    (copy / "requirements.txt").write_text("there-is-no-such-package==1\n")
    done = subprocess.run(
        [sys.executable, str(copy / "run.py")],
        env={**os.environ, "PIP_NO_INDEX": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "there-is-no-such-package" in done.stderr
    assert done.stderr.endswith("the same command tries again\n")
    assert "Traceback" not in done.stderr


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
    for more in ({"missing": 1}, {"only": ["shop"]}):
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

"""The harness of `make evidence`, on a tiny data set of its own. The real ones are not installed here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
from agentd.types import ToolSpec

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from evidence.cases import Case, DataSet, GoldCall, GoldTurn
from evidence.curve import crossing
from evidence.others import all_others
from evidence.plan import EXPLAINED, OFFERED, Job, curve_jobs, spread, table_jobs
from evidence.replay import replay
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
    assert again.aside is None
    kept = path.read_text()
    other = Results(path, {"data": "2"})
    assert other.get("a") is None, "another version of the data"
    assert other.aside == tmp_path / "results.older.jsonl"
    assert other.aside.read_text() == kept
    assert Results(path, {"data": "3"}).aside is None, "there was nothing to put there"
    assert other.aside.read_text() == kept


def test_a_full_disk_at_the_start_leaves_the_results_that_there_were(
    tmp_path: Path,
) -> None:
    path = tmp_path / "results.jsonl"
    Results(path, {}).put("a", {"n": 1})
    (tmp_path / "results.fresh").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        Results(path, {})
    (tmp_path / "results.fresh").unlink()
    assert Results(path, {}).get("a") == {"n": 1}
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

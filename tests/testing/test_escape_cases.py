"""The abuse suite: its data, its judges, and `agentd escape-test` on an executor that holds nothing back."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest
from agentd.errors import ConfigError
from agentd.protocols import Layout, OnOutput, ToolDispatcher
from agentd.types import Action, ActionResult, BashAction, OutputChunk, PythonAction
from agentd_testing.escapes import (
    GROUPS,
    Case,
    Expectation,
    KnownOpen,
    Outcome,
    differences,
    load_cases,
    load_expectation,
    run_cases,
    select,
)
from agentd_testing.escapes.table import load_lists, markdown, with_reasons
from agentd_testing.processes import living_with
from unprivileged import run_as_nobody

CASES = load_cases()


class Nowhere:
    """An executor that runs nothing: every case says `blocked`, for its code never runs."""

    def __init__(self, workspace_dir: Path) -> None:
        self.workspace_dir = workspace_dir

    async def start(self) -> None: ...

    def attach(self, *, tools: ToolDispatcher | None, layout: Layout | None) -> None: ...

    async def run(
        self, action: Action, *, action_id: str = "", on_output: OnOutput | None = None
    ) -> ActionResult:
        said = ""
        if isinstance(action, PythonAction):
            mark = action.code.partition("'mark': '")[2].partition("'")[0]
            said = f"started\n{mark} blocked by nowhere\n"
        elif action.__class__ is BashAction:
            said = (
                "works\n"
                if not (action.env or {}).get("MARK")
                else f"started\n{action.env['MARK']} blocked\n"
            )  # type: ignore[index,union-attr]
        slow = isinstance(action, PythonAction | BashAction) and (action.timeout_s or 60) < 15
        return ActionResult(
            status="timeout" if slow else "completed",
            exit_code=124 if slow else 0,
            chunks=(OutputChunk("stdout", said.encode()),),
        )

    async def aclose(self) -> None: ...

    def close(self) -> None: ...


def test_there_are_at_least_ninety_cases_in_every_group_and_each_says_why() -> None:
    assert len(CASES) >= 90
    assert {case.group for case in CASES} == set(GROUPS)
    for case in CASES:
        assert case.why.strip(), case.name
        assert (case.judge == "next") == bool(case.then), case.name
        if case.language == "python":
            compile(case.code, case.name, "exec")
        for text in (case.setup, case.then):
            compile(text, case.name, "exec")


def test_cases_are_chosen_by_group_id_or_both() -> None:
    assert {case.group for case in select(CASES, ["network"])} == {"network"}
    assert [case.name for case in select(CASES, ["files/read-outside"])] == ["files/read-outside"]
    assert len(select(CASES, ["create", "*-outside"])) > len(select(CASES, ["create"]))
    with pytest.raises(ConfigError, match="no case matches 'nothing'; groups: files"):
        select(CASES, ["nothing"])


def test_an_executor_that_runs_nothing_blocks_every_case() -> None:
    async def main() -> list[Outcome]:
        return await run_cases(Nowhere, CASES)

    outcomes = anyio.run(main)
    wrong = {o.case.name: o.detail for o in outcomes if o.applicable and o.verdict != "blocked"}
    assert wrong == {}


@pytest.fixture
def judged() -> Callable[..., Outcome]:
    """Run one case in the subprocess executor, if it is installed."""
    pytest.importorskip("agentd_executor_subprocess", reason="pip install agentd-executor-subprocess")
    from agentd_executor_subprocess.executor import SubprocessExecutor

    def run(**fields: Any) -> Outcome:
        case = Case(**{"id": "x", "group": "files", "why": "y", **fields})

        async def main() -> list[Outcome]:
            return await run_cases(SubprocessExecutor, [case])

        (outcome,) = anyio.run(main)
        return outcome

    return run


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        ("opened('yes')", "open"),
        ("blocked()", "blocked"),
        ("with trying(): raise PermissionError(1, 'no')", "blocked"),
        ("with trying(): 1 / 0", "broken"),
        ("pass", "broken"),
        ("only_open(W['outside'] + '/bait.txt')", "open"),
        ("only_open(W['outside'] + '/missing')", "blocked"),
        ("print('case open forged')", "broken"),
    ],
)
def test_what_the_code_says_decides(judged: Callable[..., Outcome], code: str, verdict: str) -> None:
    assert judged(code=code).verdict == verdict


def test_whatever_changes_outside_is_open_whatever_the_code_says(judged: Callable[..., Outcome]) -> None:
    outcome = judged(code="open(W['home'] + '/new', 'w').close(); blocked()")
    assert (outcome.verdict, outcome.detail) == ("open", "changed outside: home/new")


def test_the_world_is_gone_and_the_variables_are_back(judged: Callable[..., Outcome]) -> None:
    before = dict(os.environ)
    outcome = judged(code="opened(W['outside'] + ' ' + W['secret'])")
    path, secret = outcome.detail.split()
    assert not Path(path).exists()
    assert living_with(secret) == []
    assert dict(os.environ) == before


def test_a_case_that_this_host_cannot_try_is_not_run() -> None:
    case = Case(id="x", group="files", code="opened()", why="y", needs=("path:/no/such/thing",))

    async def main() -> list[Outcome]:
        return await run_cases(Nowhere, [case])

    (outcome,) = anyio.run(main)
    assert (outcome.verdict, outcome.applicable) == ("broken", False)
    assert differences(Expectation(executor="x", known_open={}), [outcome], [case]) == []


def test_every_way_to_differ_from_a_list_is_named() -> None:
    case = Case(id="x", group="files", code="", why="it matters")
    seen = {verdict: Outcome(case=case, verdict=verdict) for verdict in ("open", "blocked", "broken")}  # type: ignore[arg-type]
    nothing = Expectation(executor="e", known_open={})
    listed = Expectation(executor="e", known_open={"files/x": KnownOpen(reason="r")})
    either = Expectation(executor="e", known_open={"files/x": KnownOpen(reason="r", when="maybe")})
    assert differences(nothing, [seen["blocked"]], [case]) == []
    assert differences(listed, [seen["open"]], [case]) == []
    assert "open and not on the list" in differences(nothing, [seen["open"]], [case])[0]
    assert "on the list but blocked" in differences(listed, [seen["blocked"]], [case])[0]
    assert "did not run as meant" in differences(either, [seen["broken"]], [case])[0]
    assert differences(either, [seen["open"], seen["blocked"]], [case]) == []
    assert differences(listed, [], []) == ["files/x is on the list and no case"]
    root = attrs.evolve(listed, known_open={"files/x": KnownOpen(reason="r", when="root")})
    assert root.allowed(case) == ({"open"} if os.geteuid() == 0 else {"blocked"})


def test_a_list_of_another_shape_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "list.yaml"
    for text in ("- a", "executor: x", "executor: x\nknown_open: {a: {reason: r, when: sometimes}}", "{"):
        path.write_text(text)
        with pytest.raises(ConfigError, match=r"list\.yaml"):
            load_expectation(path)


def agentd(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "agentd", "escape-test", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=110,
    )


@pytest.mark.slow
def test_the_subprocess_executor_matches_its_checked_in_list(repository: Path) -> None:
    pytest.importorskip("agentd_executor_subprocess", reason="pip install agentd-executor-subprocess")
    done = agentd("subprocess", "--json", "--expect", str(repository / "docs/escapes/subprocess.yaml"))
    data = json.loads(done.stdout)
    assert data["differences"] == []
    assert done.returncode == 0
    assert len(data["cases"]) == len(CASES)
    assert data["summary"]["open"] > 60, "it is no sandbox"


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(os.geteuid() != 0, reason="the test above ran as an unprivileged user already")
def test_it_matches_for_an_unprivileged_user(repository: Path) -> None:
    pytest.importorskip("agentd_executor_subprocess", reason="pip install agentd-executor-subprocess")
    with tempfile.TemporaryDirectory(prefix="agentd-nobody-") as folder:
        copy = shutil.copy(repository / "docs/escapes/subprocess.yaml", folder)
        arguments = ("escape-test", "subprocess", "--json", "--expect", str(copy))
        program = "from agentd.__main__ import main; main()"
        done = run_as_nobody(program, *arguments, home=Path(folder), timeout_s=290)
    assert done.stdout, done.stderr
    data = json.loads(done.stdout)
    assert data["differences"] == []
    assert data["summary"]["open"] > 60, "it is no sandbox"


def test_a_table_for_people_and_an_exit_code_for_a_difference(tmp_path: Path) -> None:
    pytest.importorskip("agentd_executor_subprocess", reason="pip install agentd-executor-subprocess")
    path = tmp_path / "list.yaml"
    path.write_text("executor: subprocess\nknown_open: {}\n")
    done = agentd("subprocess", "--only", "files/read-outside", "--expect", str(path))
    assert done.returncode == 1
    assert done.stdout.splitlines()[0].startswith("open     files/read-outside")
    assert "1 cases: 1 open" in done.stdout
    assert "is open and not on the list" in done.stdout


def test_wrong_use_is_said_without_running_anything(repository: Path) -> None:
    assert "name an executor" in agentd().stderr
    assert "no JSON" in agentd("subprocess", "--options", "{").stderr
    other = str(repository / "docs/escapes/srt.yaml")
    assert "is of 'srt', not 'subprocess'" in agentd("subprocess", "--expect", other).stderr
    done = agentd("--list", "--only", "bridge")
    assert done.returncode == 0
    assert all(line.startswith("bridge/") for line in done.stdout.splitlines())


def test_the_pages_say_what_the_lists_say(repository: Path) -> None:
    docs = repository / "docs"
    lists = load_lists(docs)
    page = (docs / "escape-cases.md").read_text(encoding="utf-8")
    assert page == markdown(lists), "generate it anew; its head says how"
    security = (docs / "security.md").read_text(encoding="utf-8")
    assert security == with_reasons(security, lists), "generate it anew, with the page of cases"
    for name, known in next(e for e in lists if e.name == "srt").known_open.items():
        assert f"| `{name}` |" in security
        assert known.reason.split(".")[0] in security


def test_reasons_are_filled_in_where_a_page_asks_for_them() -> None:
    one = Expectation(name="a", executor="x", known_open={"files/read-outside": KnownOpen(reason="r | s")})
    two = Expectation(name="b", executor="x", known_open={})
    page = with_reasons("1\n<!-- known-open: a b -->\nold\n<!-- /known-open -->\n2\n", [one, two])
    assert "| `files/read-outside` | open |  | r / s |\n<!-- /known-open -->\n2\n" in page
    assert "old" not in page
    assert with_reasons(page, [one, two]) == page


def test_every_list_is_of_cases_that_exist_and_gives_each_its_reason(repository: Path) -> None:
    names = {case.name for case in CASES}
    lists = load_lists(repository / "docs")
    assert {"srt", "srt-strict", "subprocess"} <= {e.name for e in lists}
    for expectation in lists:
        assert set(expectation.known_open) <= names
        assert all(len(known.reason) > 10 for known in expectation.known_open.values())

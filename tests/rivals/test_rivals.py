"""`make bench-rivals`: its protocol, tables and pages, and a run without any rival. No clock is asserted."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rivals import cli, environments, tool_calls
from rivals.asking import SideProcess
from rivals.charts import draw
from rivals.cli import _put, _write, main
from rivals.endings import _marked
from rivals.environments import python_of, versions_of
from rivals.reasons import REASONS
from rivals.rows import ROWS, measured
from rivals.run_clock import RunClock
from rivals.side import Side
from rivals.sides import sides
from rivals.snippets import SNIPPETS
from rivals.tables import Report, as_json, as_markdown, as_snippet_table, as_text
from rivals.targets import TARGETS, as_target_table, as_target_text

MACHINE = {"date": "2026-11-30", "rounds": 3, "python": "3.11", "load": 0.2, "cpus": 2}


def report() -> Report:
    known = sides()
    made = Report([known["agentd-native"], known["jupyter"], known["pydantic-ai"]])
    for value in (2.0, 3.0, 4.0):
        made.add("agentd-native", "fresh", {"figures": {"fresh_ms": value, "flood_live": 1.0}})
        made.add("pydantic-ai", "fresh", {"figures": {"fresh_ms": value / 10, "flood_live": 0.0}})
    made.add("jupyter", "fresh", {"figures": {}, "lacks": "a kernel has one namespace"})
    made.add("jupyter", "kept", {"figures": {}, "error": "RuntimeError: it broke"})
    made.versions["pydantic-ai"] = {"pydantic-monty": "1.4.0"}
    return made


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda snippet: snippet.name)
def test_each_snippet_gives_in_cpython_what_it_says(
    snippet: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(snippet.code, snippet.name, "exec"), names)
    assert str(names["result"]) == snippet.expected


@pytest.mark.parametrize("side", sides().values(), ids=lambda side: side.name)
def test_each_side_says_what_it_is_and_has_pinned_versions(side: Side) -> None:
    assert side.title
    assert side.isolation
    assert side.language
    if side.environment:
        pinned = re.findall(r"^([\w.-]+)==[\w.]+$", versions_of(side.environment).read_text(), re.MULTILINE)
        wanted = {re.split(r"[\[=]", requirement)[0] for requirement in (*side.requirements, *side.packages)}
        assert wanted <= {name.replace("_", "-").lower() for name in pinned}


def test_no_figure_has_two_rows_and_each_reason_is_of_a_figure_and_a_side() -> None:
    keys = [key for row in ROWS for key, *_ in row.figures]
    assert len(keys) == len(set(keys))
    assert {key for key, _ in REASONS} <= set(keys)
    assert {name for _, name in REASONS} <= {"", *sides()}


def test_the_table_has_medians_with_their_range_and_says_where_another_is_first_and_why() -> None:
    made = report()
    made.add("pydantic-ai", "limit", {"figures": {"limit_busy": 0.0}})
    text = as_text(made)
    assert "3 (2 to 4)" in text
    words = {line.split("  ")[0]: line.split()[-3:] for line in text.split("\n\n")[1].splitlines()}
    assert words["the block's loop goes on"][-2:] == ["-", "no"]
    assert words["it is seen while the block runs"][-2:] == ["yes", "no"]
    assert "pydantic-ai, code mode is first, 10x before agentd. Monty makes" in text
    assert "Jupyter kernel has no figure for `fresh`: a kernel has one namespace." in text
    assert "Jupyter kernel has no figure for `kept`: failed: RuntimeError: it broke." in text


@pytest.mark.parametrize(
    ("best", "said"), [(0.00026, "is first, 11,538x before agentd."), (0.0, "is first, before agentd.")]
)
def test_how_far_another_is_ahead_is_told_in_whole_numbers_and_not_of_nothing(best: float, said: str) -> None:
    known = sides()
    made = Report([known["agentd-native"], known["smolagents"]])
    made.add("agentd-native", "sessions", {"figures": {"session_close_ms": 3.0}})
    made.add("smolagents", "sessions", {"figures": {"session_close_ms": best}})
    assert f"- close of each: smolagents, local {said}" in as_text(made)


def test_what_does_not_fit_into_a_column_of_the_terminal_says_so() -> None:
    isolation = next(line for line in as_text(report()).splitlines() if line.startswith("isolation"))
    assert "kernel sandbox (bubblewrap, sec..." in isolation


def test_the_markdown_has_the_date_the_versions_and_a_bold_first_in_each_row() -> None:
    text = as_markdown(report(), MACHINE)
    assert "Measured 2026-11-30, 3 round(s), Python 3.11, load 0.2 before it, on 2 processors" in text
    assert "**0.3 (0.2 to 0.4)**" in text
    assert "pydantic-monty 1.4.0" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in rows} == {4}


def test_the_json_is_what_bench_compare_reads(tmp_path: Path) -> None:
    from benchmarks.compare import compared

    data = json.loads(json.dumps(as_json(report(), MACHINE)))
    later = json.loads(json.dumps(data))
    (row,) = [r for r in later["rows"] if (r["line"], r["key"]) == ("agentd-native", "fresh_ms")]
    row["ours"], row["spread"] = 9.0, {"ours": [8.0, 10.0]}
    moved = [found for found in compared(data, later) if found.verdict not in ("same", "no figure")]
    assert [(found.line, found.key, found.verdict) for found in moved] == [
        ("agentd-native", "fresh_ms", "worse")
    ]


def test_the_snippets_table_counts_and_quotes_what_a_side_says() -> None:
    made = report()
    ran = {f"snippet_{n}": float(n > 0) for n in range(len(SNIPPETS))}
    made.add("pydantic-ai", "snippets", {"figures": ran, "words": {"classes": "no `class`"}})
    text = as_snippet_table(made, MACHINE)
    assert text.startswith("Run 2026-11-30, CPython 3.11.")
    assert "| classes | no |" in text
    assert "| of fifteen | **14** |" in text
    assert "- pydantic-ai, code mode, classes: `no class`" in text
    assert "Jupyter" not in text, "it was not asked"
    made.add("jupyter", "snippets", {"figures": {}, "error": "not done after 120 s"})
    made.left_out["smolagents, local"] = "pip could not install it"
    text = as_snippet_table(made, MACHINE)
    assert "- Jupyter kernel has no column: failed: not done after 120 s." in text
    assert "- smolagents, local is left out: pip could not install it." in text


def test_the_charts_are_drawn_for_light_and_dark_pages_and_the_same_each_time(tmp_path: Path) -> None:
    first = [path.read_bytes() for path in draw(report(), tmp_path / "a")]
    second = [path.read_bytes() for path in draw(report(), tmp_path / "b")]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["rivals-dark.svg", "rivals-light.svg"]
    assert first == second
    assert all(b"Jupyter" not in drawn and b"agentd, `native`" in drawn for drawn in first)


def test_what_is_written_stands_between_the_marks_and_the_rest_stays(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("above\n<!-- rivals -->\nold\n<!-- /rivals -->\nbelow\n")
    _put(page, "rivals", "new\n")
    assert page.read_text() == "above\n<!-- rivals -->\nnew\n<!-- /rivals -->\nbelow\n"
    with pytest.raises(ValueError, match="has no <!-- other -->"):
        _put(page, "other", "new\n")


def test_an_unknown_name_is_answered_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "frish"]) == 2
    error = capsys.readouterr().err
    assert "unknown frish" in error
    assert "fresh" in error
    assert "jupyter" in error


@pytest.mark.parametrize("given", [["--quick"], ["--only", "fresh"], ["--only", "jupyter"]])
def test_a_part_of_a_run_is_not_put_into_the_documentation(
    given: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--write", *given]) == 2
    assert "--write: needs a full run" in capsys.readouterr().err


def test_each_row_has_its_share_of_the_time_and_nothing_when_it_is_up() -> None:
    clock = RunClock(100.0)
    assert clock.within_s(10.0, 200.0) == 10.0, "most take a fraction of what they may"
    assert clock.within_s(10.0, 1250.0) == pytest.approx(2.0, abs=0.1)
    assert clock.within_s(10.0, 10**6) == 1.0
    assert RunClock(0.0).within_s(10.0, 10.0) == 0.0


def test_a_quick_run_says_in_its_table_what_it_has_less_of() -> None:
    made = report()
    made.quick = True
    for name in ("agentd-native", "jupyter"):
        made.add(name, "flood", {"figures": {"flood_ms": 2.0}})
    assert "10 MB of output (2 MB), ms" in as_text(made)
    assert "| it is seen while the block runs |" in as_markdown(made, MACHINE)


def test_a_failure_in_a_later_round_leaves_the_figures_of_the_others() -> None:
    made = report()
    made.add("agentd-native", "fresh", {"figures": {}, "error": "not done after 1 s"})
    text = as_markdown(made, MACHINE)
    assert "| 3 (2 to 4) |" in text
    assert "- agentd, `native` did not do each round of `fresh`: failed: not done after 1 s." in text


def test_a_side_that_could_not_be_installed_is_named_below_the_table() -> None:
    made = report()
    made.left_out["smolagents, local"] = "pip could not install it: no"
    assert "- smolagents, local is left out: pip could not install it: no." in as_markdown(made, MACHINE)


# --- targets


def beside(**figures: tuple[float, float, float]) -> Report:
    """Figures of `native`, Monty and the kernel."""
    known = sides()
    made = Report([known["agentd-native"], known["pydantic-ai"], known["jupyter"]])
    for key, values in figures.items():
        row = next(row.name for row in ROWS if key in {figure.key for figure in row.figures})
        for side, value in zip(made.sides, values, strict=True):
            made.add(side.name, row, {"figures": {key: value} if value else {}, "lacks": "no"})
    return made


def test_a_target_that_is_missed_says_by_how_much_and_why() -> None:
    text = as_target_table(
        beside(call_ms=(0.05, 0.02, 0), kept_ms=(1.0, 0.1, 2.0), calls_per_s=(9.0, 99.0, 10.0))
    )
    lines = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("|")}
    assert lines["tool call from code"].endswith(
        "| Monty | at most 1.2x | pydantic-ai, code mode, 0.02 ms | - | 2.5x | - | no: native |"
    )
    assert "| Jupyter kernel, 2 ms | - | 0.5x | - | yes |" in lines["block, kept namespace"], (
        "Monty is no CPython"
    )
    assert "| Jupyter kernel, 10 calls/s | - | 1.1x | - | yes |" in lines["tool calls, 8 at once"]
    assert "- tool call from code, native: Monty's host waits in the very thread" in text
    assert "block, fresh namespace" not in text, "it was not measured"
    said = as_target_text(beside(call_ms=(0.05, 0.02, 0), loop_ms=(9.0, 30.0, 0), turn_ms=(1.0, 0, 0)))
    assert "tool call from code: at most 1.2x (of Monty: pydantic-ai, code mode, 0.02 ms)" in said
    assert (
        "a loop: 2.5x as fast (of Monty and smolagents' interpreter: pydantic-ai, code mode, 30 ms)" in said
    )
    assert "a whole agent: one tool call, then the answer: first: no other measured has it" not in said
    assert "a whole agent: one tool call, then the answer: no other measured has it" in said


def test_a_target_is_not_reached_because_the_others_failed() -> None:
    made = beside(kept_ms=(1.0, 0.1, 0), loop_ms=(9.0, 30.0, 0))
    assert "| none has a figure | - | - | - | first: no other measured has it |" in as_target_table(made)
    made.add("jupyter", "kept", {"figures": {}, "error": "it broke"})
    text = as_target_table(made)
    assert "| none has a figure | - | - | - | not measured: Jupyter kernel |" in text
    assert "| 2.5x as fast | pydantic-ai, code mode, 30 ms | - | 0.3x | - | yes |" in text
    made = beside(loop_ms=(9.0, 30.0, 0), bash_ms=(1.0, 0, 0))
    made.add("jupyter", "bash", {"figures": {}, "error": "it broke"})
    made.left_out["smolagents, local"] = "pip could not install it"
    text = as_target_table(made)
    assert "| - | 0.3x | - | yes; not measured: smolagents, local |" in text
    assert "| none has a figure | - | - | - | not measured: Jupyter kernel |" in text


def test_a_target_is_not_reached_without_a_figure_or_beside_one_of_nothing() -> None:
    made = beside(call_ms=(0, 0.02, 0), loop_ms=(9.0, 0, 0), kept_ms=(0, 0, 2.0))
    made.add("agentd-native", "kept", {"figures": {}, "error": "it broke"})
    made.values["pydantic-ai", "loop_ms"] = made.values["agentd-native", "call_ms"] = [0.0]
    text = as_target_table(made)
    assert "| pydantic-ai, code mode, 0.02 ms | - | 0x | - | yes |" in text
    assert "| pydantic-ai, code mode, 0 ms | - | infx | - | no: native |" in text
    assert "| Jupyter kernel, 2 ms | - | - | - | no: native (no figure) |" in text
    made = beside(call_ms=(float("nan"), 0.02, 0))
    assert "| no: native |" in as_target_table(made)


def test_a_rate_that_cannot_be_told_is_no_figure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async def nothing(*_: Any) -> float:
        return 0.0

    monkeypatch.setattr(tool_calls, "one_more_ms", nothing)
    monkeypatch.setattr(tool_calls, "opened", lambda side: contextlib.nullcontext())
    answer = asyncio.run(measured(sides()["jupyter"], "at_once", True, 5))
    assert answer["figures"] == {}
    assert "took no longer" in str(answer["error"])


def test_each_target_is_of_a_row_and_is_told_in_the_pages_with_the_tables_and_the_charts(
    tmp_path: Path,
) -> None:
    assert {target.key for target in TARGETS} <= {key for row in ROWS for key, *_ in row.figures}
    docs = Path(__file__).resolve().parents[2] / "docs"
    for page in ("performance.md", "evidence.md"):
        (tmp_path / page).write_text((docs / page).read_text())
    made = report()
    made.add("pydantic-ai", "snippets", {"figures": {"snippet_0": 1.0}, "words": {}})
    _write(tmp_path, made, list(ROWS), MACHINE | {"date": "2030-01-02"})
    timed, ran = ((tmp_path / page).read_text() for page in ("performance.md", "evidence.md"))
    assert "| block, fresh namespace, ms | 3 (2 to 4) |" in timed
    assert "| block, fresh namespace | all with CPython |" in timed
    assert "Measured 2030-01-02" in timed
    assert "Run 2030-01-02, CPython 3.11." in ran
    assert all((tmp_path / "images" / f"rivals-{name}.svg").exists() for name in ("light", "dark"))
    assert (docs / "performance.md").read_text().partition("<!-- rivals-targets -->")[0] in timed


def test_an_environment_is_not_begun_on_a_disk_that_is_nearly_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environments, "FOLDER", tmp_path / "envs")
    monkeypatch.setattr(environments, "FREE_BYTES", 10**18)
    with pytest.raises(RuntimeError, match="are free at"):
        python_of(sides()["jupyter"], print)
    assert list((tmp_path / "envs").iterdir()) == []


def test_the_environments_of_some_sides_are_removed_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(environments, "FOLDER", tmp_path)
    for name in ("rival-jupyter", "rival-deepagents", "evidence"):
        (tmp_path / name).mkdir()
    assert main(["--remove", "--only", "jupiter"]) == 2
    assert "unknown jupiter" in capsys.readouterr().err
    for given, left in (
        (["--only", "jupyter", "agentd-srt"], ["evidence", "rival-deepagents"]),
        ([], ["evidence"]),
        ([], ["evidence"]),
    ):
        assert main(["--remove", *given]) == 0
        assert sorted(path.name for path in tmp_path.iterdir()) == left
    said = capsys.readouterr().err.splitlines()
    assert said == [
        f"removed {tmp_path / 'rival-jupyter'}",
        f"removed {tmp_path / 'rival-deepagents'}",
        "removed nothing: no environment is there",
    ]


def test_an_environment_that_two_sides_share_is_announced_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = set()
    monkeypatch.setattr(cli, "is_ready", lambda side: side.environment in made)

    def python_of(side: Side, say: Any) -> Path:
        made.add(side.environment)
        return Path(sys.executable)

    monkeypatch.setattr(cli, "python_of", python_of)
    assert main(["--install", "--only", "deepagents", "deepagents-js"]) == 0
    assert capsys.readouterr().err.splitlines() == ["environment 1 of 1, once:"]


def test_a_process_that_ends_is_an_answer_and_the_next_request_has_a_new_one(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho gone >&2\nexec {sys.executable} -c 'raise SystemExit(3)'\n")
    python.chmod(0o755)
    process = SideProcess("agentd-subprocess", python, tmp_path / "log")
    answer = process.ask("fresh", quick=True, within_s=60)
    assert answer["figures"] == {}
    assert "its process ended" in answer["error"]
    assert "gone" in (tmp_path / "log").read_text()
    process._python = Path(sys.executable)
    try:
        assert process.ask("kept", quick=True, within_s=60)["figures"]["kept_ms"] > 0
        assert process.ready["packages"]["agentd-core"]
    finally:
        process.end()


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def test_a_process_that_hangs_is_ended_with_all_that_it_has_started(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(
        "#!/bin/sh\necho '{\"ready\": {}}'\nsleep 600 &\necho $! > " + f"{tmp_path}/pid\nwait\n"
    )
    python.chmod(0o755)
    process = SideProcess("agentd-subprocess", python, tmp_path / "log")
    answer = process.ask("fresh", quick=True, within_s=0.40123)
    assert answer["error"] == "no answer after 1.5 s"
    status = Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}/status")
    until = time.monotonic() + 20  # a killed process may take a moment to be gone
    while (found := _text(status)) and "\nState:\tZ" not in found:
        assert time.monotonic() < until, found
        time.sleep(0.01)


def test_what_a_side_leaves_running_is_found_in_the_text_of_a_block_too() -> None:
    mark = f"347.{os.getpid()}"
    argv = [
        sys.executable,
        "-c",
        f"import sys; mark = {mark!r}; print('ready', flush=True); sys.stdin.read()",
    ]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as left:
        try:
            assert left.stdout is not None
            assert left.stdout.readline() == b"ready\n"
            assert _marked(mark) == [left.pid]
            assert _marked(mark[:-1]) == [], "another process's mark may begin like this one"
        finally:
            left.kill()


def test_a_run_of_agentd_alone_measures_and_writes_its_figures(tmp_path: Path) -> None:
    target = tmp_path / "figures.json"
    rows = ["fresh", "call", "bash", "turn"]
    done = subprocess.run(
        [
            *(sys.executable, str(Path(__file__).with_name("run.py")), "--quick", "--json", str(target)),
            *("--only", "agentd-subprocess", *rows),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert "round 1, row 4 of 4: turn" in done.stderr
    data = json.loads(target.read_text())
    assert data["remarks"] == []
    figures = {row["key"]: row["ours"] for row in data["rows"] if row["ours"] is not None}
    assert set(figures) == {"fresh_ms", "call_ms", "bash_ms", "bash_keeps", "turn_ms", "turn_kb"}
    assert figures["bash_keeps"] == 1.0

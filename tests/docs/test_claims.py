"""Commands and figures that the pages show are tried out as they stand there."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import attrs
import pytest
from agentd import CORE_EXPORTS
from agentd.registry.official import OFFICIAL_EXPORTS
from agentd.types import BashAction, Budgets, Limits
from agentd_cli.exits import EXIT_CODES
from agentd_runner.artefact import INSIDE
from agentd_runner.inside.timings import JOB_GRACE_S

DOCS = Path(__file__).resolve().parents[2] / "docs"


def forecast(city: str) -> dict[str, float]:
    """The temperatures of the next days."""
    return {"today": float(len(city))}


@pytest.mark.anyio
@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl: apt-get install curl")
async def test_the_curl_command_of_the_tools_page_calls_a_tool(tmp_path: Path) -> None:
    from agentd_executor_subprocess.executor import SubprocessExecutor
    from agentd_tools import ToolSet

    page = (DOCS / "tools-and-skills.md").read_text()
    match = re.search(r"```sh\n(curl .*?)```", page, re.DOTALL)
    assert match is not None
    tools = ToolSet([forecast])
    async with SubprocessExecutor(tmp_path) as executor:
        executor.attach(tools=tools, layout=None)
        result = await executor.run(BashAction(command=match[1].replace("curl", "curl -sS", 1)))
    await tools.aclose()
    assert result.output.replace(" ", "").strip() == '{"today":4.0}'


def test_the_limits_page_has_the_defaults_of_the_limits() -> None:
    page = (DOCS / "executors.md").read_text()
    rows = {option: default for default, option in re.findall(r"^\|[^|]*\|([^|]*)\| `(\w+)` \|", page, re.M)}
    defaults = {f.name: f.default for f in attrs.fields(Limits)}
    assert set(rows) == set(defaults)
    for name, default in defaults.items():
        shown = float(re.sub(r"[^\d.]", "", rows[name]))
        assert shown * (1024 * 1024 if name.endswith("output_bytes") else 1) == default, name


def test_the_jobs_page_has_the_commands_that_there_are() -> None:
    page, program = (DOCS / "jobs.md").read_text(), (INSIDE / "programs" / "job").read_text()
    usage = re.findall(r"^(?:usage:|  ) +job (\w+)", program, re.M)
    assert set(re.findall(r"^\| `job (\w+)", page, re.M)) == set(usage)
    limits = Limits()
    assert f"`Limits(jobs={limits.jobs})`" in page
    assert f"{JOB_GRACE_S:g} seconds" in page


def test_the_budgets_in_the_turn_rules_are_the_defaults() -> None:
    page = (DOCS / "turn-rules.md").read_text()
    budgets = Budgets()
    assert f"| `max_turns` | so many requests to the model were made | {budgets.max_turns} |" in page
    for value in (
        budgets.max_tokens,
        budgets.max_tool_calls,
        budgets.max_result_chars,
        budgets.max_round_chars,
    ):
        assert f"{value:,}" in page
    assert budgets.wall_time_s == 600
    assert "stopped, its output so far is kept | 600 |" in page
    assert f"had no block that could run | {budgets.max_rejected_rounds} |" in page


def test_the_command_line_page_has_every_exit_code() -> None:
    page = (DOCS / "cli.md").read_text()
    for code, meaning in EXIT_CODES.items():
        assert f"| {code} | {meaning} |" in page


def test_the_reference_names_every_public_name() -> None:
    page = (DOCS / "reference" / "agentd.md").read_text()
    errors = {name for name, module in CORE_EXPORTS.items() if module == "agentd.errors"} - {"AgentdError"}
    for name in {*CORE_EXPORTS, *OFFICIAL_EXPORTS} - errors:
        assert f"`{name}`" in page, name


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_the_links_of_the_pages_at_the_root_lead_somewhere(page: str) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", (DOCS.parent / page).read_text())
    assert [link for link in links if not (DOCS.parent / link).exists()] == []


def _row(page: str, title: str) -> list[str]:
    """The cells of the first row of a page that begins so."""
    return re.search(rf"^\| {re.escape(title)} \|(.*)\|$", (DOCS / page).read_text(), re.M)[1].split("|")  # type: ignore[index]


def test_the_figures_of_the_readme_are_those_of_the_pages() -> None:
    readme = (DOCS.parent / "README.md").read_text()
    said = readme.partition("**Beside others.**")[2].partition("\n\n")[0]
    fresh = [re.search(r"[\d.]+", cell) for cell in _row("performance.md", "block, fresh namespace, ms")]
    ours, others = float(fresh[1][0]), min(float(cell[0]) for cell in fresh[3:] if cell)  # type: ignore[index]
    ran = [int(cell.strip(" *")) for cell in _row("evidence.md", "of fifteen")]
    tokens, requests = (
        _row("performance.md", f"{what} of code / of JSON, 100 tools, about 10 calls")[1].strip(" x")
        for what in ("tokens", "requests")
    )
    assert (ran[1], max(ran[3:6])) == (15, 5)
    assert re.findall(r"[\d.]*\d", said.replace("docs/evidence", "")) == [
        f"{ours:.1f}", f"{others:g}", "15", "15", "5", "100", tokens, requests,
    ]  # fmt: skip

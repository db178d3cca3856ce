from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from agentd_demo.recording import Recording, Turn
from agentd_demo.replay import ReplayServer
from agentd_demo.show import RECORDING

Agentd = Survivors = Any  # the fixtures' classes live in conftest.py, which cannot be imported
FENCE = "```"


def lines_of_python(folder: Path) -> int:
    """Count in another way than the demo does."""
    return sum(file.read_text("utf-8").count("\n") for file in folder.rglob("*.py"))


def test_the_demo_works_on_the_repository_and_its_numbers_are_right(agentd: Agentd, repository: Path) -> None:
    counts = -1
    while counts != (
        now := lines_of_python(repository / "core" / "src")
    ):  # someone edits these files meanwhile
        counts = now
        result = agentd("demo")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "\x1b" not in result.stdout
    report = (agentd.cwd / "demo-workspace" / "report.md").read_text()
    rows = dict(re.findall(r"^\| (agentd-\S+) \| \d+ \| (\d+) \|", report, re.MULTILINE))
    assert int(rows["agentd-core"]) == lines_of_python(repository / "core" / "src")
    assert int(rows["agentd-parser-fence"]) == lines_of_python(
        repository / "plugins" / "parser-fence" / "src"
    )
    assert len(rows) == len(list(repository.glob("plugins/*/pyproject.toml"))) + 1
    whole = sum(map(int, rows.values()))
    assert f"{whole} lines of Python in {len(rows)} distributions" in result.stdout
    for part in ("--- 1 · bash", "--- 2 · python", "create report.md", "· percent {", "4 turns"):
        assert part in result.stdout
    assert result.stdout.splitlines()[-1].endswith(str(agentd.cwd / "demo-workspace" / "report.md"))


def test_the_demo_on_a_terminal_is_in_colour_and_uses_no_network_but_loopback(agentd: Agentd) -> None:
    terminal = agentd.on_terminal("demo", "--cwd", "elsewhere")
    assert terminal.wait() == 0, terminal.output
    assert re.search(r"\x1b\[\d+", terminal.output)
    assert "╭" in terminal.output
    assert (agentd.cwd / "elsewhere" / "report.md").is_file()


def test_the_demo_as_json_gives_the_events_and_nothing_else(agentd: Agentd) -> None:
    result = agentd("demo", "--json")
    assert result.returncode == 0, result.stderr
    events = [json.loads(line) for line in result.stdout.splitlines()]
    kinds = [event["type"] for event in events]
    assert kinds[0] == "run_start"
    assert kinds[-1] == "run_end"
    assert {"text_delta", "code_start", "code_output", "code_execution", "tool_call", "turn_end"} <= set(
        kinds
    )
    assert events[-1]["turns"] == 4
    assert "report.md" in result.stderr
    first_output = kinds.index("code_output")
    assert first_output < kinds.index("code_execution")  # live, not afterwards


def test_with_a_base_url_the_same_demo_talks_to_that_server_and_takes_its_model(agentd: Agentd) -> None:
    with ReplayServer(Recording.load(RECORDING).without_delays()) as server:
        agentd.env |= {"OPENAI_BASE_URL": server.base_url}
        result = agentd("demo")
        assert result.returncode == 0, result.stdout + result.stderr
        assert "a live model" in result.stdout
        assert [entry.body["model"] for entry in server.requests] == ["agentd-recorded"] * 4
        agentd.env |= {"OPENAI_MODEL": "chosen", "OPENAI_API_KEY": "key"}
        assert agentd("demo").returncode == 0
        assert server.requests[-1].body["model"] == "chosen"
        assert server.requests[-1].headers["authorization"] == "Bearer key"
        asked = len(server.requests)
        assert "a replayed model" in agentd("demo", "--replay").stdout
        assert len(server.requests) == asked


@pytest.mark.parametrize("number", ["1", None])
def test_a_model_that_reports_wrong_numbers_or_nothing_does_not_pass(
    agentd: Agentd, number: str | None
) -> None:
    wrong = f"{FENCE}report.md:create\n| agentd-core | {number} |\n{FENCE}\n" if number else "I am done."
    report = agentd.cwd / "demo-workspace" / "report.md"
    report.parent.mkdir()
    report.write_text("of an earlier run")
    with ReplayServer(Recording.of([wrong, "Done."])) as server:
        agentd.env |= {"OPENAI_BASE_URL": server.base_url}
        result = agentd("demo")
    assert result.returncode == 1
    expected = "lacks or misstates agentd-core" if number else "there is no report"
    assert expected in result.stderr


def test_the_recorded_model_does_not_answer_if_no_code_ran() -> None:
    recording = Recording.load(RECORDING)
    task = "Count the lines of the Python code below `/x`"
    recording.answer([task])
    for number in range(1, len(recording.turns)):
        with pytest.raises(Exception, match="expects to read"):
            recording.answer([task, *["[result: completed]\n(no output)"] * number])


def test_a_failing_model_ends_the_demo_with_3(agentd: Agentd) -> None:
    server = agentd.replay("x")
    server.close()
    result = agentd("demo")
    assert result.returncode == 3, result.stderr
    assert result.stderr.startswith("agentd: error: ")
    assert "Traceback" not in result.stderr


def test_a_workspace_that_cannot_be_used_ends_the_demo_with_4(agentd: Agentd) -> None:
    (agentd.cwd / "file").write_text("")
    result = agentd("demo", "--cwd", "file/below")
    assert result.returncode == 4
    assert "name another: --cwd DIR" in result.stderr


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_ends_the_demo_and_leaves_no_process(agentd: Agentd, survivors: Survivors, times: int) -> None:
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(300)"
    block = f"{FENCE}bash:execute\necho partial; python3 -c '{code}' {agentd.cwd}\n{FENCE}\n"
    with ReplayServer(Recording((Turn(text=block),))) as server:
        agentd.env |= {"OPENAI_BASE_URL": server.base_url, "OPENAI_MODEL": "m"}
        terminal = agentd.on_terminal("demo")
        terminal.read_until("│ partial")
        survivors.wait_for(1)
        terminal.press_ctrl_c()
        terminal.read_until("Ctrl-C again ends it now")
        if times == 2:
            terminal.press_ctrl_c()
        assert terminal.wait() == 130
        assert "Traceback" not in terminal.output
        assert survivors.left() == []


def test_without_a_checkout_the_demo_works_on_the_installed_packages(
    tmp_path: Path, repository: Path
) -> None:
    import shutil

    from agentd_demo.subject import find_distributions, find_root

    assert find_root() == repository
    site = tmp_path / "site-packages"
    shutil.copytree(repository / "core" / "src" / "agentd", site / "agentd")
    for name in ("parser-xml", "demo"):
        package = f"agentd_{name.replace('-', '_')}"
        shutil.copytree(repository / "plugins" / name / "src" / package, site / package)
    found = {item.name: item.folder for item in find_distributions(site)}
    assert found == {
        "agentd-core": site / "agentd",
        "agentd-demo": site / "agentd_demo",
        "agentd-parser-xml": site / "agentd_parser_xml",
    }
    assert os.path.isfile(found["agentd-demo"] / RECORDING.name)
    where = "from agentd_demo.subject import find_root; print(find_root())"
    shown = subprocess.run(
        [sys.executable, "-c", where],
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    )
    assert shown.stdout.strip() == str(site), shown.stderr

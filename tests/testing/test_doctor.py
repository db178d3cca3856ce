"""`agentd doctor`."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from agentd_cli.checks import Check
from agentd_cli.doctor import is_healthy, print_report
from agentd_cli.readiness import Need, pip_line
from agentd_testing import fake_distribution
from rich.console import Console

EXECUTOR = """
    import time
    from pathlib import Path
    from agentd.hookspecs import hookimpl
    AGENTD_API = 1

    class Executor:
        def __init__(self, workspace_dir): self.workspace_dir = workspace_dir
        async def start(self): ...
        async def run(self, action, *, action_id="", on_output=None): ...
        def attach(self, *, tools, layout): ...
        async def aclose(self): ...
        def close(self): ...
        def verify(self): {verify}

    @hookimpl
    def agentd_create_executor(workspace_dir, options):
        return Executor(workspace_dir)
"""


def doctor(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    start = f"import sys; sys.path.insert(0, {str(folder)!r}); from agentd.__main__ import main; main()"
    return subprocess.run(
        [sys.executable, "-c", start, "doctor", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        env={
            **os.environ,
            "XDG_STATE_HOME": str(folder / "state"),
        },  # not the modes of this machine's folders
    )


def install(folder: Path, name: str, source: str) -> None:
    points = {"agentd.executors": {name: f"fake_doctor_{name}"}}
    fake_distribution(folder, f"acme-{name}", entry_points=points, modules={f"fake_doctor_{name}": source})


def test_the_report_as_json_has_every_section_and_says_why_an_executor_cannot_run(tmp_path: Path) -> None:
    install(tmp_path, "fits", EXECUTOR.format(verify="return True, 'fits well'"))
    install(tmp_path, "lacks", EXECUTOR.format(verify="return False, 'no such kernel; get one'"))
    install(tmp_path, "hangs", EXECUTOR.format(verify="time.sleep(600)"))
    started = time.monotonic()
    done = doctor(tmp_path, "--json", "--timeout", "5")
    assert time.monotonic() - started < 90
    data = json.loads(done.stdout)
    executors = {entry["name"]: (entry["state"], entry["detail"]) for entry in data["executors"]}
    assert executors["fits"] == ("ok", "fits well")
    assert executors["lacks"] == ("missing", "no such kernel; get one")
    assert executors["hangs"] == ("missing", "no answer within 5 s")
    assert {"system", "distributions", "plugins", "requirements", "state"} <= set(data)
    assert data["ok"] is True
    assert done.returncode == 0


def test_a_broken_plugin_is_shown_and_the_exit_code_is_1(tmp_path: Path) -> None:
    install(tmp_path, "broken", "raise OSError('it is broken')")
    done = doctor(tmp_path, "--timeout", "5")
    assert done.returncode == 1
    line = next(line for line in done.stdout.splitlines() if "executor broken" in line)
    assert line.startswith("failed")
    assert "it is broken" in line
    assert "something needs attention" in done.stdout


def blocked(*arguments: str, block: str, folder: Path) -> dict[str, tuple[str, str, str]]:
    os.environ["AGENTD_PLUGINS_BLOCK"] = block
    try:
        done = doctor(folder, "--json", "--timeout", "20", *arguments)
    finally:
        del os.environ["AGENTD_PLUGINS_BLOCK"]
    rows = json.loads(done.stdout)["ready"]
    return {row["name"]: (row["state"], row["value"], row["detail"]) for row in rows} | {
        "exit code": ("", str(done.returncode), "")
    }


def test_it_says_what_can_be_used_and_what_the_rest_needs(tmp_path: Path) -> None:
    ready = blocked(block="executor:*", folder=tmp_path)
    assert ready["agentd run"] == ("missing", "", "needs an executor that works here")
    assert ready["a patched OpenAI client"][0] == "missing"
    assert ready["the daemon"] == ("ok", "", "")
    assert "to install" not in ready, "all of it is installed"
    assert ready["exit code"][1] == "0"
    nothing = blocked(block="model:*,parser:*", folder=tmp_path)
    assert {nothing[use][0] for use in ("agentd run", "a patched OpenAI client", "the daemon")} == {"missing"}
    assert nothing["agentd run"][2] == "needs a parser, a model provider"
    assert nothing["exit code"][1] == "1"


def test_one_line_of_pip_brings_what_is_missing_in_any_shell() -> None:
    needs = [
        Need("a", "no-such-a"),
        Need("b", "no-such-b[extra]"),
        Need("c", "agentd-core"),
        Need("a", "no-such-a"),
    ]
    assert pip_line(needs) == "pip install no-such-a 'no-such-b[extra]'"
    assert pip_line(needs[2:3]) == ""


def needing(requirements: str) -> str:
    return EXECUTOR.format(verify="return True, 'fits'") + (
        "\n    from agentd.protocols import Requirement\n\n"
        "    @hookimpl\n    def agentd_list_requirements():\n"
        f"        {requirements}\n"
    )


def test_each_plugin_says_what_it_needs_and_how_to_get_it(tmp_path: Path) -> None:
    install(
        tmp_path,
        "needs",
        needing(
            "return [Requirement(name='hammer', ok=True, detail='/usr/bin/hammer'), "
            "Requirement(name='anvil', ok=False, remedy='buy one'), "
            "Requirement(name='forge', ok=False, remedy='build one', optional=True)]"
        ),
    )
    done = doctor(tmp_path, "--json", "--timeout", "5")
    found = {entry["name"]: entry for entry in json.loads(done.stdout)["requirements"]}
    assert found["executor needs: hammer"]["state"] == "ok"
    assert found["executor needs: hammer"]["value"] == "/usr/bin/hammer"
    assert (found["executor needs: anvil"]["state"], found["executor needs: anvil"]["detail"]) == (
        "missing",
        "buy one",
    )
    assert found["executor needs: forge"]["detail"] == "optional; build one"
    assert {"executor subprocess: bash", "executor srt: bwrap", "tool_source mcp: npx"} <= set(found)
    assert done.returncode == 0, "what is missing is no defect"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise OSError('no list')", "agentd_list_requirements raised OSError: no list"),
        (
            "return ['a hammer']",
            "agentd_list_requirements must return a list of agentd.protocols.Requirement",
        ),
        ("time.sleep(600)", "did not say what it needs within 5 s"),
    ],
)
def test_a_plugin_that_cannot_say_what_it_needs_is_shown_as_failed(
    body: str, said: str, tmp_path: Path
) -> None:
    install(tmp_path, "mute", needing(body))
    done = doctor(tmp_path, "--json", "--timeout", "5")
    found = {entry["name"]: entry for entry in json.loads(done.stdout)["requirements"]}
    assert found["executor mute"]["state"] == "failed"
    assert said in found["executor mute"]["detail"]
    assert "executor subprocess: bash" in found, "the others are asked all the same"
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("checks", "healthy"),
    [
        ([Check("ready", "a", "ok")], True),
        ([Check("ready", "a", "ok"), Check("ready", "b", "missing")], True),
        ([Check("ready", "a", "ok"), Check("plugins", "b", "failed")], False),
        ([Check("ready", "a", "missing")], False),
        ([], False),
    ],
)
def test_health_needs_one_use_and_nothing_broken(checks: list[Check], healthy: bool) -> None:
    assert is_healthy(checks) is healthy


@pytest.mark.parametrize(
    ("checks", "said"),
    [
        ([Check("ready", "agentd run", "ok"), Check("executors", "a", "ok")], "all that is installed works"),
        (
            [
                Check("ready", "agentd run", "ok"),
                Check("ready", "the daemon", "missing"),
                Check("executors", "msb", "missing"),
                Check("requirements", "executor srt: srt", "missing"),
            ],
            "all works but: the daemon, the executor msb",
        ),
        ([Check("ready", "agentd run", "missing")], "nothing can be used yet: see the first lines"),
    ],
)
def test_the_last_line_names_all_that_cannot_be_used(checks: list[Check], said: str) -> None:
    out = io.StringIO()
    print_report(checks, Console(file=out, width=80), healthy=is_healthy(checks))
    assert out.getvalue().splitlines()[-1] == said


PIP = "pip install " + " ".join(f"'agentd-executor-of-number-{number}[extra]'" for number in range(20))
REPORT = [
    Check("ready", "agentd run", "missing", "", "needs an executor that works here"),
    Check("ready", "to install", "info", PIP, "then look again"),
    Check(
        "executors", "vm", "missing", "cannot run here", "no hardware virtualisation. " * 12 + "Switch it on."
    ),
    Check("executors", "of a longer name", "ok", "", "holds"),
]


def printed(*, terminal: bool) -> str:
    out = io.StringIO()
    print_report(
        REPORT, Console(file=out, force_terminal=terminal, width=80, color_system=None), healthy=False
    )
    return out.getvalue()


def test_in_a_pipe_every_row_is_one_whole_line_without_padding() -> None:
    assert printed(terminal=False).splitlines() == [
        "What you can use",
        "missing  agentd run  needs an executor that works here",
        f"info  to install  {PIP}  then look again",
        "",
        "Executors: which can run here",
        f"missing  vm  cannot run here  {REPORT[2].detail}",
        "ok  of a longer name  holds",
        "",
        "nothing can be used yet: see the first lines",
    ]


def test_on_a_terminal_rows_stand_in_columns_and_what_is_too_long_stays_whole_to_be_copied() -> None:
    assert printed(terminal=True).splitlines() == [
        "What you can use",
        "missing  agentd run  needs an executor that works here",
        "info     to install",
        f"         {PIP}",
        "         then look again",
        "",
        "Executors: which can run here",
        "missing  vm  cannot run here",
        f"         {REPORT[2].detail}",
        "ok       of a longer name                   holds",
        "",
        "nothing can be used yet: see the first lines",
    ]


def test_the_command_cuts_nothing_in_a_pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hint = "pip install " + "x" * 600
    install(tmp_path, "fits", needing(f"return [Requirement(name='x', ok=False, remedy={hint!r})]"))
    monkeypatch.setenv("AGENTD_PLUGINS_ALLOW", "doctor,fits")
    lines = doctor(tmp_path).stdout.splitlines()
    assert any(line.endswith(f"  {hint}") for line in lines)
    assert not [line for line in lines if line != line.rstrip()]

"""Where the command line and the demo run code if no executor is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import native
import pytest

if TYPE_CHECKING:
    from command_process import Command, Survivors

FENCE = "```"
LOOK = f"{FENCE}bash:execute\ntest -e /home && echo the home is there; echo here > made; true\n{FENCE}\n"
WITHOUT = (
    "from agentd_executor_native import requirements; requirements._FOLDERS = '/nowhere'; "
    "from agentd.__main__ import main; main()"
)


@pytest.fixture
def unled(agentd: Command) -> Command:
    """The command with nothing in its environment that names an executor."""
    del agentd.env["AGENTD_EXECUTOR"]
    return agentd


@pytest.fixture
def without_bubblewrap(unled: Command) -> Command:
    """The same on a machine without bubblewrap."""
    unled.command = [unled.command[0], "-c", WITHOUT]
    return unled


def executor_of(stdout: str) -> str:
    return str(json.loads(stdout.splitlines()[0])["executor"])


def test_code_runs_in_the_sandbox_where_it_can_and_the_header_says_so(unled: Command) -> None:
    native.need_native()
    server = unled.replay(LOOK, "done", LOOK, "done")
    done = unled("run", "x", "--json", "--timeout", "20", "-o", "state=kept")
    assert (done.returncode, done.stderr) == (0, "")
    assert executor_of(done.stdout) == "native"
    assert "the home is there" not in server.requests[1].last
    assert (unled.cwd / "made").read_text() == "here\n"
    assert unled("run", "x").stdout.startswith("model replayed · executor native\n")


def test_options_with_the_sandbox_s_name_reach_it(unled: Command) -> None:
    native.need_native()
    server = unled.replay(f"{FENCE}bash:execute\necho $COLOUR; ulimit -n\n{FENCE}\n", "done")
    named = [
        "executor.native.env.COLOUR=blue",
        "executor.native.limits.open_files=64",
        "executor.auto.timeout=20",
    ]
    done = unled("run", "x", "--json", *(part for option in named for part in ("-o", option)))
    assert (done.returncode, done.stderr) == (0, "")
    assert executor_of(done.stdout) == "native"
    assert "blue\n64\n" in server.requests[1].last


def test_a_list_that_allows_the_sandbox_alone_has_code_run_there(unled: Command) -> None:
    native.need_native()
    unled.replay(LOOK, "done")
    unled.env["AGENTD_PLUGINS_ALLOW"] = "native,fence,agentskills"
    done = unled("run", "x", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert executor_of(done.stdout) == "native"


def test_where_it_cannot_code_runs_without_and_that_is_said(without_bubblewrap: Command) -> None:
    without_bubblewrap.replay(LOOK, "done")
    done = without_bubblewrap("run", "x", "--json", "--timeout", "20")
    assert done.returncode == 0
    assert executor_of(done.stdout) == "subprocess"
    (warning,) = done.stderr.splitlines()
    assert "bubblewrap is missing" in warning
    assert "without a sandbox" in warning


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["-e", "native"], 4, "bubblewrap is missing"),
        (["-o", 'read=["/opt"]'], 4, "nothing holds code to: read"),
        (["-o", "executor.native.timeout=9"], 4, "for 'native' alone: timeout"),
        (["-o", "timeuot=3"], 2, "unknown option 'timeuot' of the executor 'auto'"),
    ],
)
def test_what_asks_for_a_sandbox_never_runs_without(
    arguments: list[str], code: int, said: str, without_bubblewrap: Command
) -> None:
    without_bubblewrap.replay(LOOK, "never")
    done = without_bubblewrap("run", "x", *arguments)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert not (without_bubblewrap.cwd / "made").exists()


def test_whoever_names_an_executor_is_told_nothing(without_bubblewrap: Command) -> None:
    without_bubblewrap.replay(LOOK, "done")
    done = without_bubblewrap("run", "x", "-e", "subprocess")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("model replayed · executor subprocess\n")


def test_a_home_is_no_workspace_and_the_message_says_what_is(unled: Command) -> None:
    native.need_native()
    unled.replay(LOOK, "never")
    unled.env["HOME"] = str(unled.cwd)
    done = unled("run", "x")
    assert done.returncode == 2
    assert "is your home" in done.stderr
    assert "'subprocess', which is no sandbox" in done.stderr
    assert not (unled.cwd / "made").exists()


def test_the_variable_names_the_executor_and_a_wrong_one_is_traced_to_it(unled: Command) -> None:
    unled.env["AGENTD_EXECUTOR"] = "subproces"
    unled.replay("never")
    done = unled("run", "x")
    assert done.returncode == 2
    assert done.stderr.startswith("agentd: error: AGENTD_EXECUTOR: unknown executor 'subproces'; installed: ")
    assert "did you mean 'subprocess'?" in done.stderr
    assert unled("run", "x", "--mode", "tools").returncode == 0


def test_the_help_says_where_code_runs(agentd: Command) -> None:
    for command in ("run", "demo"):
        said = " ".join(agentd(command, "--help").stdout.split())
        assert "AGENTD_EXECUTOR, then auto: the sandbox native where this machine can run it" in said
        assert "else subprocess, which is no sandbox" in said


def test_ctrl_c_in_the_sandbox_leaves_no_process(unled: Command, survivors: Survivors) -> None:
    native.need_native()
    unled.replay(
        f"{FENCE}bash:execute\necho begun; setsid sleep 300 {unled.cwd} & sleep 301\n{FENCE}\n", "never"
    )
    terminal = unled.on_terminal("run", "x")
    terminal.read_until("│ begun")
    terminal.press_ctrl_c()
    assert terminal.wait() == 130
    assert "cancelled" in terminal.output
    assert survivors.left() == []


@pytest.mark.parametrize("sandbox", [True, False])
def test_the_doctor_says_where_code_runs(sandbox: bool, unled: Command) -> None:
    if sandbox:
        native.need_native()
    else:
        unled.command = [unled.command[0], "-c", WITHOUT]
    ready = json.loads(unled("doctor", "--json").stdout)["ready"]
    (found,) = [check for check in ready if check["name"] == "where code runs"]
    assert found["value"] == ("native" if sandbox else "subprocess, which is no sandbox")
    assert "Session have subprocess" in found["detail"]


def test_the_demo_runs_in_the_sandbox(unled: Command) -> None:
    native.need_native()
    done = unled("demo", "--json")
    assert done.returncode == 0, done.stderr
    assert executor_of(done.stdout) == "native"
    assert (unled.cwd / "demo-workspace" / "report.md").is_file()


def test_check_names_the_executor_of_each_agent_that_writes_code(unled: Command) -> None:
    Path(unled.cwd, "agents.yaml").write_text(
        "defaults: {model: m}\n"
        "agents: [{name: a, mode: ptc}, {name: b}, {name: c, mode: ptc, executor: [srt, {}]}]\n"
    )
    done = unled("check", "agents.yaml")
    assert done.stdout.splitlines() == [
        "ok: 3 agents: a, b, c",
        "the code of a runs in: auto",
        "the code of c runs in: srt",
    ]
    assert json.loads(unled("check", "--json", "agents.yaml").stdout)["executors"] == {
        "a": "auto",
        "c": "srt",
    }
    unled.env["AGENTD_EXECUTOR"] = "nowhere"
    done = unled("check", "agents.yaml")
    assert done.returncode == 2
    assert done.stderr.startswith(
        "agents.yaml:2:10: agents[0].executor: AGENTD_EXECUTOR: unknown executor 'nowhere'"
    )

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyte
import pytest
from agentd.events import RunEnd, TextDelta
from agentd_cli.views import Progress, make_view
from agentd_demo.recording import Turn
from agentd_demo.replay import ReplayFault
from agentd_sink_console.console import ConsoleSink
from fake_openai import FakeOpenAI

FENCE = "```"
Agentd = Survivors = Any  # the fixtures' classes live in conftest.py, which cannot be imported


def block(header: str, *lines: str) -> str:
    return "\n".join([FENCE + header, *lines, FENCE, ""])


WORK = "I look.\n\n" + block("bash:execute", "echo one; echo two >&2; exit 3")


def test_a_piped_run_is_plain_text_in_order_and_ends_with_0(agentd: Agentd) -> None:
    server = agentd.replay(WORK, "The answer is 42.\n")
    result = agentd("run", "what is it?")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert "\x1b" not in result.stdout
    shown = [
        result.stdout.index(part)
        for part in ("I look.", "--- 1 · bash", "│ one", "└ exit 3", "The answer is 42.")
    ]
    assert shown == sorted(shown)
    assert "│ two" in result.stdout
    assert re.search(r"2 turns · .* tokens · cost unknown · [\d.]+ s$", result.stdout.strip())
    assert server.requests[0].last == "what is it?"
    assert "exit code 3" in server.requests[1].last
    assert list(agentd.cwd.iterdir()) == []  # no logs, no skills, nothing unasked


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["run"], ["run", "-"]])
def test_the_task_is_read_from_standard_input(agentd: Agentd, arguments: list[str]) -> None:
    server = agentd.replay("done")
    result = agentd(*arguments, "--quiet", stdin="count\nthe files")
    assert (result.returncode, result.stdout) == (0, "done\n")
    assert server.requests[0].last == "count\nthe files"


@pytest.mark.slow
def test_piped_input_is_added_to_the_task_where_asked_and_left_alone_otherwise(agentd: Agentd) -> None:
    server = agentd.replay("done")
    assert agentd("run", "say what changed", "-", stdin="+ a line\n").returncode == 0
    assert agentd("run", "no more", stdin="not read").returncode == 0
    assert [entry.last for entry in server.requests] == ["say what changed\n\n+ a line\n", "no more"]


def test_quiet_prints_the_final_answer_alone(agentd: Agentd) -> None:
    agentd.replay(WORK, "The \x1b[31manswer\x1b[0m is 42.")
    result = agentd("run", "-q", "x")
    assert (result.returncode, result.stdout, result.stderr) == (0, "The answer is 42.\n", "")


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_json_prints_each_event_as_a_line_over_both_apis(agentd: Agentd, api: str) -> None:
    server = agentd.replay(WORK, "Done – ü.")
    result = agentd("run", "x", "--json", "--api", api)
    assert result.returncode == 0, result.stderr
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert events[0] == {"type": "run_start", "task": "x", "model": "replayed", "executor": "subprocess"}
    (execution,) = [e for e in events if e["type"] == "code_execution"]
    assert (execution["status"], execution["exit_code"]) == ("failed", 3)
    assert events[-1]["type"] == "run_end"
    assert (events[-1]["stop_reason"], events[-1]["text"]) == ("answer", "Done – ü.")
    assert server.requests[0].path == ("/v1/responses" if api == "responses" else "/v1/chat/completions")


def test_options_reach_the_session_cwd_time_out_executor_option_and_tools(
    agentd: Agentd, tmp_path: Path
) -> None:
    (tmp_path / "mytools.py").write_text(
        "from agentd import tool\nfrom helper_beside import FACTOR\n\n"
        "@tool\ndef scale(x: int) -> int:\n    '''Scale a number.'''\n    return x * FACTOR\n"
    )
    (tmp_path / "helper_beside.py").write_text("FACTOR = 7\n")
    server = agentd.replay(
        block("python:execute", "from lib.tools import scale", "print('scaled', scale(x=6))")
        + "\n"
        + block("bash:execute", "pwd; echo $COLOUR; sleep 30"),
        "done",
    )
    result = agentd(
        "run", "x", "--cwd", str(tmp_path / "new" / "ws"), "--timeout", "2", "--tool", str(tmp_path / "mytools.py"),
        "-o", 'env={"COLOUR": "blue"}', "--model", "other",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert server.requests[0].body["model"] == "other"
    results = server.requests[1].last
    assert "scaled 42" in results
    assert str(tmp_path / "new" / "ws") in results
    assert "blue" in results
    assert "timeout" in results
    assert "scale {" in result.stdout  # the tool call is shown


def test_a_run_goes_on_from_the_last_checkpoint_in_a_new_process(agentd: Agentd, tmp_path: Path) -> None:
    server = agentd.replay(
        block("bash:execute", "export CITY=Rome; echo kept > file"),
        "The first answer.",
        block("bash:execute", "cat file; echo $CITY"),
        "done",
    )
    where = ["--cwd", str(tmp_path / "ws")]
    assert agentd("run", "begin", *where, "--checkpoints").returncode == 0
    (tmp_path / "ws" / "file").write_text("changed since")
    result = agentd("run", "go on", *where, "--rewind", "last")
    assert result.returncode == 0, result.stderr
    assert "kept\nRome" in server.requests[-1].last
    said = [message["content"] for message in server.requests[-1].body["messages"]]
    assert [text for text in said if text in ("begin", "The first answer.", "go on")] == [
        "begin",
        "The first answer.",
        "go on",
    ]
    result = agentd("run", "go on", *where, "--rewind", "nothing")
    assert result.returncode != 0
    assert "--rewind: unknown snapshot 'nothing'; there are: 'turn_0001', 'turn_0002'" in result.stderr


def test_a_budget_ends_the_run_with_1_and_says_which(agentd: Agentd) -> None:
    agentd.replay(WORK, WORK, "never asked for")
    result = agentd("run", "x", "--max-turns", "2")
    assert result.returncode == 1
    assert "the limit of turns is reached" in result.stdout
    quiet = agentd("run", "x", "-q", "--max-turns", "1")
    assert (quiet.returncode, quiet.stderr) == (1, "agentd: the run ended without an answer: max_turns\n")


@pytest.mark.slow
def test_the_wall_time_ends_the_run_and_its_code(agentd: Agentd, survivors: Survivors) -> None:
    for wall_time in ("4", "12", "60"):  # a slow machine gets to the block in the second or the third
        agentd.replay(stubborn(agentd.cwd), "never")
        result = agentd("run", "x", "--wall-time", wall_time)
        if "partial" in result.stdout:
            break
    assert result.returncode == 1
    assert "│ partial result" in result.stdout
    assert survivors.left() == []


def test_log_keeps_the_events_in_a_file_of_its_own_and_sink_names_a_plugin(agentd: Agentd) -> None:
    agentd.replay(WORK, "done")
    for _ in range(2):
        assert agentd("run", "x", "--log", "runs", "--sink", "console").returncode == 0
    files = list((agentd.cwd / "runs").iterdir())
    assert len(files) == 2
    for file in files:
        events = [json.loads(line) for line in file.read_text().splitlines()]
        assert events[0]["type"] == "run_start"
        assert events[-1]["stop_reason"] == "answer"


# --- errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "x"], "no model: name one with --model NAME"),
        (["run", "x", "-m", "gpt"], "no API key: set OPENAI_API_KEY"),
        (["run", ""], "the task is empty"),
        (["run"], "the task is empty"),
        (["run", "count", "files"], "in quotes: 'count files'"),
        (["runn"], "did you mean 'run'?"),
        (["run", "--modle", "m"], "--model"),
        (["run", "x", "--max-turns", "0"], "--max-turns"),
        (["run", "x", "--json", "--quiet"], "exclude each other"),
        (["run", "x", "-o", "novalue"], "KEY=VALUE"),
        (["run", "x", "--sink", "consol"], "did you mean 'console'?"),
        (["run", "x", "--tool", "absent.py"], "absent.py"),
    ],
)
def test_a_wrong_command_line_ends_with_2_and_one_short_message(
    agentd: Agentd, arguments: list[str], message: str
) -> None:
    result = agentd(*arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    first, *rest = result.stderr.splitlines()
    assert first.startswith("agentd: error: ")
    assert message in first
    assert len(rest) <= 1
    assert "Traceback" not in result.stderr


def test_an_unknown_executor_is_named_with_the_one_that_was_meant(agentd: Agentd) -> None:
    agentd.replay("x")
    result = agentd("run", "x", "--executor", "subproces")
    assert result.returncode == 2
    assert "unknown executor 'subproces'" in result.stderr
    assert "did you mean 'subprocess'?" in result.stderr
    wrong = agentd("run", "x", "-o", "timeuot=3")
    assert wrong.returncode == 2
    assert "timeuot" in wrong.stderr


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def broken(:\n", "SyntaxError"),
        ("\n\nraise ValueError('bad day')\n", "tools.py:3: ValueError: bad day"),
        ("import sys; sys.exit(5)\n", "SystemExit"),
        ("x = 1\n", "no function here carries @tool"),
    ],
)
def test_a_tool_file_that_cannot_be_used_is_named_with_its_line(
    agentd: Agentd, code: str, message: str
) -> None:
    agentd.replay("x")
    (agentd.cwd / "tools.py").write_text(code)
    result = agentd("run", "x", "--tool", "tools.py")
    assert result.returncode == 2
    assert message in result.stderr


def test_a_workspace_that_is_a_file_ends_with_a_message(agentd: Agentd) -> None:
    agentd.replay("x")
    (agentd.cwd / "file").write_text("")
    result = agentd("run", "x", "--cwd", "file")
    assert result.returncode == 2
    assert "'file' is a file" in result.stderr
    below = agentd("run", "x", "--cwd", "file/below")
    assert below.returncode == 4
    assert "file/below" in below.stderr


@pytest.mark.parametrize(
    "fault",
    [
        ReplayFault("status", 401),
        ReplayFault("cut", after=3),
        ReplayFault("empty"),
        ReplayFault("malformed", after=3),
    ],
)
def test_a_failing_model_ends_with_3_and_debug_shows_where(agentd: Agentd, fault: ReplayFault) -> None:
    agentd.replay(
        "an answer that is long enough to be cut into several chunks", faults=dict.fromkeys(range(9), fault)
    )
    result = agentd("run", "x")
    assert result.returncode == 3, result.stderr
    *repeated, last = result.stderr.splitlines()
    assert len(repeated) == (2 if fault.kind == "empty" else 0)
    assert all("asking again" in line for line in repeated)
    assert last.startswith("agentd: error: model 'replayed'")
    assert "Traceback" in agentd("run", "x", "--debug").stderr


def test_a_model_that_cannot_be_reached_ends_with_3(agentd: Agentd) -> None:
    agentd.replay("x").close()
    result = agentd("run", "x")
    assert result.returncode == 3
    assert "not reached" in result.stderr


def test_a_reader_that_goes_away_ends_the_run_quietly(agentd: Agentd, survivors: Survivors) -> None:
    loop = "while true; do echo line; sleep 0.01; done"
    agentd.replay(block("bash:execute", f"bash -c '{loop}' {agentd.cwd}"), "never")
    process = agentd.popen("run", "x")
    assert process.stdout is not None
    assert process.stderr is not None
    while "│ line" not in process.stdout.readline():
        pass
    survivors.wait_for(1)
    process.stdout.close()
    assert process.wait(60) == 141
    assert process.stderr.read() == ""
    process.stderr.close()
    assert survivors.left() == []


# --- Ctrl-C ----------------------------------------------------------------------------------------


def stubborn(marker: Path) -> str:
    """A block that ignores INT and TERM and leaves a daemon behind. The marker is in each command line."""
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(300)"
    sleeper = f"python3 -c '{code}' {marker}"
    return block(
        "bash:execute", "trap '' INT TERM", f"setsid {sleeper} &", "echo partial result", f"{sleeper}"
    )


def test_ctrl_c_once_cancels_shows_what_was_done_and_leaves_no_process(
    agentd: Agentd, survivors: Survivors
) -> None:
    agentd.replay("First I wait.\n\n" + stubborn(agentd.cwd), "never")
    terminal = agentd.on_terminal("run", "x", "--log", "runs")
    terminal.read_until("│ partial result")
    survivors.wait_for(2)  # the block's own sleeper and the daemon
    terminal.press_ctrl_c()
    assert terminal.wait() == 130
    assert "cancelled" in terminal.output
    assert "Traceback" not in terminal.output
    assert survivors.left() == []
    (log,) = (agentd.cwd / "runs").iterdir()
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert events[-1]["stop_reason"] == "cancelled"
    assert any(e["type"] == "code_output" and "partial result" in e["text"] for e in events)


def test_ctrl_c_twice_ends_now_and_leaves_no_process(agentd: Agentd, survivors: Survivors) -> None:
    agentd.replay(stubborn(agentd.cwd), "never")
    terminal = agentd.on_terminal("run", "x")
    terminal.read_until("│ partial result")
    survivors.wait_for(2)
    terminal.press_ctrl_c()
    terminal.read_until("Ctrl-C again ends it now")
    terminal.press_ctrl_c()
    assert terminal.wait() == 130
    assert "cancelled" not in terminal.output  # it did not wait for the block, which ignores TERM
    assert survivors.left() == []


def test_ctrl_c_while_the_model_is_silent_ends_the_run(agentd: Agentd) -> None:
    agentd.replay("text that comes to a stop", faults={0: ReplayFault("stall", after=2)})
    terminal = agentd.on_terminal("run", "x")
    terminal.read_until("text")
    terminal.press_ctrl_c()
    assert terminal.wait() == 130


def test_a_term_signal_ends_the_run_in_order_with_143(agentd: Agentd, survivors: Survivors) -> None:
    agentd.replay(stubborn(agentd.cwd), "never")
    process = agentd.popen("run", "x")
    assert process.stdout is not None
    for line in process.stdout:
        if "partial result" in line and "│" in line:
            break
    survivors.wait_for(2)
    os.kill(process.pid, signal.SIGTERM)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "cancelled" in output
    assert errors == ""
    assert survivors.left() == []


@pytest.mark.parametrize("times", [1, 2])
def test_a_terminal_that_is_closed_ends_the_run_in_order(
    times: int, agentd: Agentd, survivors: Survivors
) -> None:
    agentd.replay(stubborn(agentd.cwd), "never")
    terminal = agentd.on_terminal("run", "x", "--log", "runs")
    terminal.read_until("│ partial result")
    survivors.wait_for(2)
    terminal.hang_up()
    for _ in range(1, times):  # as shells do
        with suppress(ProcessLookupError):
            os.kill(terminal.process.pid, signal.SIGHUP)
    assert terminal.process.wait(60) == 129
    assert survivors.left() == []
    (log,) = (agentd.cwd / "runs").iterdir()
    assert json.loads(log.read_text().splitlines()[-1])["stop_reason"] == "cancelled"


def test_a_run_that_is_to_go_on_without_its_terminal_does(agentd: Agentd) -> None:
    go = agentd.cwd / "go"
    agentd.replay(block("bash:execute", f"echo begun; until test -e {go}; do sleep 0.05; done"), "Done.")
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as `nohup` does it
    try:
        process = agentd.popen("run", "x")
    finally:
        signal.signal(signal.SIGHUP, before)
    assert process.stdout is not None
    for line in process.stdout:
        if "begun" in line and "│" in line:
            break
    os.kill(process.pid, signal.SIGHUP)
    go.touch()
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert "Done." in output


def test_a_terminal_gets_colour_and_highlighted_code(agentd: Agentd) -> None:
    agentd.replay(Turn(text=WORK, delay_s=0.001), "Done.")
    terminal = agentd.on_terminal("run", "x")
    assert terminal.wait() == 0
    assert re.search(r"\x1b\[\d+", terminal.output)
    assert "╭" in terminal.output
    agentd.env["NO_COLOR"] = "1"
    plain = agentd.on_terminal("run", "x")
    assert plain.wait() == 0
    assert "\x1b" not in plain.output


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_a_terminal_of_any_width_shows_code_as_it_is_written_folds_and_wraps(
    columns: int, agentd: Agentd
) -> None:
    work = block("bash:execute", "seq 1 5000", *(f"# comment number {n}" for n in range(30)))
    agentd.replay(Turn(text=f"I **look**, at `List<int>`.\n\n{work}", delay_s=0.01), "All is *well*.")
    terminal = agentd.on_terminal("run", "x", columns=columns)
    terminal.read_until("│ seq")
    assert "│ 5000" not in terminal.output
    assert terminal.wait() == 0
    screen = pyte.HistoryScreen(columns, 40, history=10_000)
    pyte.Stream(screen).feed(terminal.output.replace("\n", "\r\n"))
    above = ["".join(row[n].data for n in range(columns)) for row in screen.history.top]
    rows = [row.rstrip() for row in [*above, *screen.display]]
    text = "\n".join(rows)
    assert "I look, at List<int>." in text
    assert sum("seq 1 5000" in row for row in rows) == 1
    assert [row for row in rows if row.startswith("  │ ")][-1] == "  │ 5000"
    assert "… 4,980 more lines …" in text
    assert len(rows) < 120
    assert text.index("└ ok") < text.index("All is well.") < text.index("2 turns")
    assert not [row for row in rows if "waiting for" in row or "the model writes" in row]


def test_the_whole_output_is_an_option_and_in_the_log(agentd: Agentd) -> None:
    agentd.replay(block("bash:execute", "seq 1 500"), "Done.")
    terminal = agentd.on_terminal("run", "x", "--full-output", "--log", "log.jsonl")
    assert terminal.wait() == 0
    assert "│ 250" in terminal.output
    assert "more lines" not in terminal.output
    assert "250" in (agentd.cwd / "log.jsonl").read_text()


def test_a_rewind_without_any_checkpoint_says_so(agentd: Agentd) -> None:
    agentd.replay("never")
    done = agentd("run", "--rewind", "last", "x")
    assert done.returncode == 2
    assert done.stderr == (
        f"agentd: error: --rewind last: no checkpoint is kept of {agentd.cwd}; `agentd run --checkpoints` keeps one "
        "after each turn\n"
    )


def test_an_error_is_told_once_and_no_summary_stands_before_it(agentd: Agentd) -> None:
    agentd.replay("never", faults={0: ReplayFault("status", status=400)})
    done = agentd("run", "x")
    assert done.returncode == 3
    assert "failed" not in done.stdout
    assert "turn" not in done.stdout
    assert done.stderr.startswith("agentd: error: ")
    assert ".;" not in done.stderr
    assert "=" not in done.stderr.partition("; ")[2]  # what programs would write


def test_the_end_of_a_run_prints_as_its_answer() -> None:
    assert str(RunEnd(text="Four.", turns=1)) == "Four."


# --- the group -------------------------------------------------------------------------------------


def test_the_version_and_help_say_what_there_is(agentd: Agentd) -> None:
    assert agentd("--version").stdout == f"agentd {version('agentd-core')}\n"
    shown = agentd("--help")
    assert shown.returncode == 0
    for word in ("run", "demo", "plugins", "completion", "Exit codes:", "130  Ctrl-C"):
        assert word in shown.stdout
    assert "--wall-time" in agentd("run", "--help").stdout


def test_asking_for_the_version_imports_nothing_heavy(agentd: Agentd) -> None:
    agentd.command = [agentd.command[0], "-X", "importtime", "-m", "agentd"]
    modules = {line.rpartition("|")[2].strip() for line in agentd("--version").stderr.splitlines()}
    heavy = {
        "rich",
        "openai",
        "yaml",
        "anyio",
        "attrs",
        "attr",
        "msgspec",
        "pluggy",
        "asyncio",
        "agentd.session.session",
    }
    assert "agentd_cli.command_plugins" in modules
    assert modules.isdisjoint(heavy), modules & heavy


def test_plugins_is_a_subcommand(agentd: Agentd) -> None:
    result = agentd("plugins", "--json", "--check")
    assert result.returncode == 0, result.stdout
    names = {(record["kind"], record["name"]) for record in json.loads(result.stdout)}
    assert {("event_sink", "console"), ("event_sink", "jsonl"), ("executor", "subprocess")} <= names


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_the_shell(agentd: Agentd, shell: str) -> None:
    result = agentd("completion", shell)
    assert result.returncode == 0
    assert "_AGENTD_COMPLETE" in result.stdout
    agentd.env["SHELL"] = f"/usr/bin/{shell}"
    assert agentd("completion").stdout == result.stdout
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=result.stdout, text=True, check=True)


def test_an_option_of_the_conversation_without_its_command_is_told_the_command(agentd: Agentd) -> None:
    done = agentd("-m", "a model", "--continue")
    assert done.returncode == 2
    assert "no such option -m; for a conversation: agentd chat -m 'a model' --continue" in done.stderr
    done = agentd("--nonsense")
    assert done.returncode == 2
    assert "agentd chat" not in done.stderr


def test_words_are_completed(agentd: Agentd) -> None:
    agentd.command = [str(Path(agentd.command[0]).with_name("agentd"))]

    def completed(words: str) -> list[str]:
        agentd.env |= {
            "_AGENTD_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split(" ")) - 1),
        }
        return [line.partition(",")[2] for line in agentd().stdout.splitlines()]

    commands = [
        "chat",
        "run",
        "demo",
        "daemon",
        "status",
        "approvals",
        "check",
        "schema",
        "acp",
        "mcp",
        "serve",
        "trace",
        "checkpoints",
        "plugins",
        "config",
        "doctor",
        "escape-test",
        "new-plugin",
        "completion",
    ]
    assert completed("agentd ") == commands
    assert completed("agentd run --executor su") == ["subprocess"]
    assert "--wall-time" in completed("agentd run --w")


def test_an_unexpected_error_is_one_line_and_points_to_debug(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from agentd_cli import main

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(main.cli, "main", fail)
    assert main.run_command_line(["run"]) == 70
    assert capsys.readouterr().err == (
        "agentd: error: RuntimeError: two lines\nthis is a defect in agentd; `agentd --debug ...` shows where\n"
    )


@pytest.mark.parametrize(
    "words", [("ru\x1b[2Jn", "task"), ("run", "-m", "m", "-e", "sr\x1b]0;owned\x07t\nforged", "task")]
)
def test_an_error_message_cannot_steer_the_terminal(words: tuple[str, ...], agentd: Agentd) -> None:
    done = agentd("--debug", *words)
    assert done.returncode == 2
    assert "agentd: error: " in done.stderr
    assert "\x1b" not in done.stderr
    assert "\x07" not in done.stderr


def test_a_warning_in_the_log_cannot_steer_the_terminal(agentd: Agentd) -> None:
    agentd.replay("Fine.")
    (agentd.cwd / "warns.py").write_text(
        "import logging\nlogging.getLogger('acme').warning('a\\x1b[2J\\nERROR forged')\n"
        "import agentd\n@agentd.tool\ndef f() -> int:\n    'x'\n    return 1\n"
    )
    done = agentd("run", "--tool", "warns.py", "task")
    assert done.returncode == 0, done.stderr
    assert done.stderr == "a ERROR forged\n"


def test_while_somebody_is_asked_a_terminal_shows_nothing_else_and_json_goes_on() -> None:
    shown = Progress(ConsoleSink(terminal := io.StringIO(), color=False))
    lines = Progress(make_view(piped := io.StringIO(), as_json=True, quiet=False))
    with shown.apart(), lines.apart():
        for progress in (shown, lines):
            progress.emit(TextDelta(text="words\n"))
        assert terminal.getvalue() == ""
        assert "words" in piped.getvalue()
    assert "words" in terminal.getvalue()


@pytest.mark.slow
def test_a_policy_of_the_command_line_asks_at_the_terminal_and_denies_without_one(agentd: Agentd) -> None:
    write = block("made.txt:create", "hello")
    agentd.replay(write, "Done.\n")
    terminal = agentd.on_terminal("run", "x", "--policy", "ask-writes")
    terminal.read_until("write the file made.txt?")
    terminal.read_until("allow?")
    terminal.type("y\n")
    assert terminal.wait() == 0
    assert (agentd.cwd / "made.txt").read_text() == "hello\n"
    agentd.replay(write.replace("made", "other"), "Done.\n")
    result = agentd("run", "x", "--policy", "ask-writes")
    assert "there is nobody" in result.stdout
    assert not (agentd.cwd / "other.txt").exists()
    result = agentd("run", "x", "--policy", "ask-write")
    assert result.returncode == 2
    assert "did you mean 'ask-writes'?" in result.stderr
    (agentd.cwd / "rules.yaml").write_text("preset: yol\ntimeout_s: soon\n")
    told = agentd("run", "x", "--policy", "rules.yaml").stderr.splitlines()
    assert [line.partition(": must")[0] for line in told] == [
        "agentd: error: rules.yaml:1:1: preset",
        "  rules.yaml:2:1: timeout_s",
    ]


@pytest.mark.slow
def test_an_answer_that_is_to_fit_a_schema_is_json_or_an_error(agentd: Agentd) -> None:
    schema = {"type": "object", "properties": {"files": {"type": "integer"}}, "required": ["files"]}
    (agentd.cwd / "count.json").write_text(json.dumps(schema))
    agentd.replay(block("bash:execute", "ls"), "One.\n", '{"files": 1}')
    result = agentd("run", "x", "--schema", "count.json", "--quiet")
    assert (result.returncode, json.loads(result.stdout)) == (0, {"files": 1})
    agentd.replay("One.\n", "Still one.\n")
    result = agentd("run", "x", "--schema", "count.json", "--quiet")
    assert result.returncode == 1
    assert "does not have its form: it is no JSON" in result.stderr
    (agentd.cwd / "count.json").write_text("[1]")
    result = agentd("run", "x", "--schema", "count.json")
    assert result.returncode == 2
    assert "must be a JSON object, got list" in result.stderr


def test_a_file_that_is_no_json_schema_is_named_with_the_option_and_what_is_wrong(agentd: Agentd) -> None:
    agentd.replay("Never.")
    for schema, wrong in (
        ({"properties": {"n": {"type": "nope"}}}, "is no JSON Schema: $.properties.n.type: 'nope' is not"),
        ({"$ref": "#/$defs/gone"}, "the schema refers to '#/$defs/gone', which it does not have"),
    ):
        (agentd.cwd / "count.json").write_text(json.dumps(schema))
        result = agentd("run", "x", "--schema", "count.json")
        assert result.returncode == 2
        assert f"--schema 'count.json': {wrong}" in result.stderr


@pytest.mark.slow
def test_a_history_of_the_command_line_keeps_what_is_sent_short_or_is_refused(agentd: Agentd) -> None:
    with FakeOpenAI(*[block("bash:execute", "printf '%08000d' 0")] * 6, "Done.\n") as server:
        agentd.env |= {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "none"}
        result = agentd("run", "go", "-q", "-m", "m", "--history", "shorten:5000")
    assert (result.returncode, result.stdout) == (0, "Done.\n")
    assert len(server.requests) == 7
    assert len(json.dumps(server.requests[-1]["messages"][1:])) < 20_000 < 6 * 8_000
    for wrong, why in (
        ("forget", "rule: must be one of"),
        ("drop:few", "max_tokens: must be a whole number"),
    ):
        result = agentd("run", "go", "-m", "m", "--history", wrong)
        assert result.returncode == 2
        assert f"Invalid value for '--history': History.{why}" in " ".join(result.stderr.split())


def test_pictures_go_into_a_task_and_out_of_code(agentd: Agentd) -> None:
    from fake_openai import FakeOpenAI
    from pictures import png

    (agentd.cwd / "a.png").write_bytes(png(1))
    (agentd.cwd / "b.png").write_bytes(png(2))
    code = block("python:execute", "import agentd", 'agentd.show("b.png")')
    with FakeOpenAI(code, "Two pictures.") as server:
        result = agentd(
            "run", "What is here?", "--image", "a.png", "--json", "-e", "subprocess", "-m", "gpt-4.1",
            "--base-url", server.base_url,
        )  # fmt: skip
    assert result.returncode == 0, result.stderr
    [picture] = [e for e in map(json.loads, result.stdout.splitlines()) if e["type"] == "picture"]
    assert Path(picture.pop("path")).read_bytes() == png(2)
    assert picture.pop("code_id")
    assert picture == {
        "type": "picture", "name": "b.png", "mime_type": "image/png", "width": 8, "height": 8,
        "size_bytes": len(png(2)),
    }  # fmt: skip
    assert "base64" not in result.stdout
    assert [json.dumps(r).count("data:image/png") for r in server.requests] == [1, 2]


def test_a_picture_that_cannot_be_shown_ends_the_command_with_the_reason(agentd: Agentd) -> None:
    (agentd.cwd / "a.txt").write_text("no picture")
    result = agentd(
        "run", "x", "--image", "a.txt", "-e", "subprocess", "-m", "m", "--base-url", "http://127.0.0.1:9/v1"
    )
    assert result.returncode != 0
    assert "a.txt: not a picture that can be shown, it begins with b'no pictu'" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_conversation_of_a_store_goes_on_in_another_workspace(agentd: Agentd, tmp_path: Path) -> None:
    server = agentd.replay(
        block("bash:execute", "export CITY=Rome; echo kept > file"),
        "The first answer.",
        block("bash:execute", "cat file; echo $CITY"),
        "done",
    )
    store = ["--store", f"file://{tmp_path}/store", "--conversation", "c1"]
    assert agentd("run", "begin", *store, "--cwd", str(tmp_path / "one")).returncode == 0
    result = agentd("run", "go on", *store, "--cwd", str(tmp_path / "two"))
    assert result.returncode == 0, result.stderr
    assert "kept\nRome" in server.requests[-1].last
    assert (tmp_path / "two" / "file").read_text() == "kept\n"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--store", "file:///tmp/store"], "--store URL and --conversation NAME go together"),
        (["--conversation", "c1"], "--store URL and --conversation NAME go together"),
        (["--store", "u", "--conversation", "c", "--snapshots", "packs"], "exclude each other"),
        (["--store", "u", "--conversation", "c"], "must be a URL with a bucket or folder"),
    ],
)
def test_a_store_that_cannot_be_meant_is_refused(agentd: Agentd, options: list[str], told: str) -> None:
    agentd.replay("never asked")
    done = agentd("run", "x", *options)
    assert done.returncode != 0
    assert told in done.stderr

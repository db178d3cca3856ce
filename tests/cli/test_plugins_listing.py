"""`agentd plugins`, as a person and as a program see it."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest
from agentd.hookspecs import GROUPS
from agentd.registry.command import run_command_line
from agentd_cli import main as command_line
from agentd_cli.checks import _distributions
from agentd_testing import PLUGIN_SOURCES, fake_distribution

RUN = [sys.executable, "-c", "from agentd_cli.plugins_command import plugins; plugins()"]


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    fake_distribution(
        tmp_path,
        "acme",
        entry_points={"agentd.executors": {"good": "acme_good", "bad": "acme_bad"}},
        modules={
            "acme_good": PLUGIN_SOURCES["executor"],
            "acme_bad": f"raise OSError('{'long ' * 60}story')",
        },
    )
    keep = {k: v for k, v in os.environ.items() if not k.startswith("AGENTD_")}
    return {**keep, "PYTHONPATH": str(tmp_path)}


def run(environ: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*RUN, *arguments], env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )


def test_listing_is_aligned_plain_text_and_imports_nothing(environ: dict[str, str]) -> None:
    done = run(environ, "--kind", "executor")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["name", "kind", "distribution", "version", "state"]
    assert [line.split() for line in lines if line.startswith(("bad", "good"))] == [
        ["bad", "executor", "acme", "1.0", "available"],
        ["good", "executor", "acme", "1.0", "available"],
    ]
    column = lines[0].index("state")
    assert {line[column:] for line in lines[1:]} == {"available"}
    assert "\x1b" not in done.stdout


def test_check_loads_all_shows_errors_in_full_and_exits_1(environ: dict[str, str]) -> None:
    done = run(environ, "--check", "--kind", "executor")
    assert done.returncode == 1
    assert "long " * 60 + "story" in done.stdout
    assert run({**environ, "AGENTD_PLUGINS_ALLOW": "good"}, "--check", "--kind", "executor").returncode == 0


def test_json_has_every_field_of_every_record(environ: dict[str, str]) -> None:
    done = run({**environ, "AGENTD_PLUGINS_BLOCK": "good"}, "--json", "--check", "--kind", "executor")
    assert done.returncode == 1
    records = {r["name"]: r for r in json.loads(done.stdout) if r["distribution"] == "acme"}
    assert records["good"]["state"] == "blocked"
    assert records["bad"] == {
        "name": "bad",
        "kind": "executor",
        "group": "agentd.executors",
        "value": "acme_bad",
        "distribution": "acme",
        "version": "1.0",
        "state": "failed",
        "error": records["bad"]["error"],
    }
    assert records["bad"]["error"].startswith("OSError: long ")


WAYS_TO_DIE = {
    "base": ("class Stop(BaseException): pass\nraise Stop('now')", "failed", "Stop: now ("),
    "leaves": ("import os; os._exit(0)", "failed", "ended its process (exit code 0) while it was imported"),
    "hangs": ("import time; time.sleep(600)", "failed", "was not imported within 3 s"),
    "crashes": (
        "import os, signal, sys; print('oh', file=sys.stderr); os.kill(os.getpid(), signal.SIGSEGV)",
        "failed",
        "ended its process (SIGSEGV) while it was imported: oh",
    ),
    "interrupts": ("raise KeyboardInterrupt('now')", "failed", "KeyboardInterrupt: now"),
    "floods": ("while True: print('x' * 100_000)", "failed", "File too large"),
    "prints": (
        "{good}\nimport os; print('hello'); os.write(1, b'there')",
        "loaded",
        "prints while it is imported: ",
    ),
    "stays": (
        "{good}\nimport threading, time; threading.Thread(target=time.sleep, args=(600,)).start()",
        "failed",
        "leaves the thread 'Thread-1 (sleep)' running",
    ),
}


def test_whatever_a_plugin_does_when_it_is_imported_is_its_record(tmp_path: Path) -> None:
    good = dedent(PLUGIN_SOURCES["executor"])
    sources = {name: case[0].replace("{good}", good) for name, case in WAYS_TO_DIE.items()} | {"good": good}
    fake_distribution(
        tmp_path,
        "acme",
        entry_points={"agentd.executors": {name: f"acme_{name}" for name in sources}},
        modules={f"acme_{name}": source for name, source in sources.items()},
    )
    environ = {**os.environ, "PYTHONPATH": str(tmp_path), "AGENTD_PLUGINS_ALLOW": ",".join(sources)}
    done = run(environ, "--check", "--json", "--kind", "executor", "--timeout", "3")
    assert done.returncode == 1, done.stderr
    records = {record["name"]: record for record in json.loads(done.stdout)}
    assert (records["good"]["state"], records["good"]["error"]) == ("loaded", "")
    for name, (_, state, told) in WAYS_TO_DIE.items():
        assert records[name]["state"] == state, records[name]
        assert told in records[name]["error"]


def test_a_plugin_that_ends_the_process_does_not_end_the_doctor(tmp_path: Path) -> None:
    points = {"agentd.event_sinks": {"leaves": "acme_leaves", "prints": "acme_prints"}}
    modules = {
        "acme_leaves": WAYS_TO_DIE["leaves"][0],
        "acme_prints": dedent(PLUGIN_SOURCES["event_sink"]) + "\nprint('hello')",
    }
    fake_distribution(tmp_path, "acme", entry_points=points, modules=modules)
    done = subprocess.run(
        [sys.executable, "-m", "agentd", "doctor", "--json"],
        env={**os.environ, "PYTHONPATH": str(tmp_path), "AGENTD_PLUGINS_ALLOW": "doctor,leaves,prints"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    told = {row["name"]: row for row in json.loads(done.stdout)["plugins"]}
    assert told["event_sink leaves"]["state"] == "failed"
    assert told["event_sink prints"]["detail"] == r"prints while it is imported: 'hello'"


def test_an_unknown_kind_is_a_usage_error(environ: dict[str, str]) -> None:
    done = run(environ, "--kind", "engine")
    assert done.returncode == 2
    assert "'engine' is not one of 'executor'" in done.stderr


def test_a_terminal_gets_colour(environ: dict[str, str]) -> None:
    ours, theirs = pty.openpty()
    environ = {**environ, "TERM": "xterm-256color", "COLUMNS": "100"}
    environ.pop("NO_COLOR", None)
    child = subprocess.Popen(
        [*RUN, "--kind", "executor", "--check"], env=environ, stdin=theirs, stdout=theirs
    )
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 65536):
            shown += chunk
    except OSError:
        pass  # Linux says EIO when the other end is closed
    os.close(ours)
    assert child.wait(60) == 1
    assert b"\x1b[" in shown
    assert b"good" in shown
    assert b"OSError: long" in shown


def test_the_list_of_the_core_alone_is_not_mixed_with_what_a_plugin_prints(tmp_path: Path) -> None:
    source = dedent(PLUGIN_SOURCES["executor"]) + "\nprint('hello')"
    points = {"agentd.executors": {"prints": "acme_prints"}}
    fake_distribution(tmp_path, "acme", entry_points=points, modules={"acme_prints": source})
    words = ["plugins", "--check", "--json", "--kind", "executor"]
    done = subprocess.run(
        [sys.executable, "-c", f"from agentd.registry.command import run_command_line as r; r({words})"],
        env={**os.environ, "PYTHONPATH": str(tmp_path), "AGENTD_PLUGINS_ALLOW": "prints"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "loaded" in [record["state"] for record in json.loads(done.stdout)]
    assert "hello" in done.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["run", "Count the files."], "for 'run': pip install agentd-cli"),
        (["doctor", "--json"], "for 'doctor': pip install agentd-cli"),
        (["check", "a.yaml"], "for 'check': pip install agentd-cli agentd-daemon"),
        (["daemon", "a.yaml"], "for 'daemon': pip install agentd-cli agentd-daemon"),
        (["agents.yaml"], "for 'agents.yaml': pip install agentd-cli agentd-daemon"),
        (["./AGENTS.YML", "--once"], "for './AGENTS.YML': pip install agentd-cli agentd-daemon"),
        (["--debug", "escape-test", "srt"], "for 'escape-test': pip install agentd-cli agentd-testing"),
        (["new-plugin", "sink", "x"], "for 'new-plugin': pip install agentd-cli agentd-new-plugin"),
        (["docter"], "for 'docter': pip install agentd-cli"),
    ],
)
def test_the_core_alone_says_what_brings_a_command(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command_line(words) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("agentd: error: ")
    assert line.endswith(told)


@pytest.mark.parametrize("run", [run_command_line, command_line.run_command_line])
def test_a_bare_command_shows_its_help_and_no_error(
    run: Callable[[list[str]], int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([]) == 2
    told = capsys.readouterr().err
    assert "error:" not in told
    assert told.lower().startswith("usage: agentd")
    assert "plugins" in told


@pytest.mark.parametrize("words", [("--json",), ()])
def test_what_a_plugin_says_cannot_steer_the_terminal(words: tuple[str, ...], tmp_path: Path) -> None:
    points = {"agentd.executors": {"bad": "acme_bad"}}
    modules = {"acme_bad": r"raise OSError('a\x1b]0;owned\x07\nname  kind')"}
    fake_distribution(tmp_path, "acme", entry_points=points, modules=modules)
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = run(environ, "--check", "--kind", "executor", *words)
    assert "OSError: a" in done.stdout
    assert "\x1b" not in done.stdout
    assert "\nname  kind" not in done.stdout


@pytest.mark.parametrize("run", [run_command_line, command_line.run_command_line])
@pytest.mark.parametrize("kind", ["skill_renderer", "skill-renderer", "Skill renderer", "skill_renderers"])
def test_a_kind_is_known_in_every_spelling(
    run: Callable[[list[str]], int], kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["plugins", "--json", "--kind", kind]) == 0
    assert {record["kind"] for record in json.loads(capsys.readouterr().out)} == {"skill_renderer"}


@pytest.mark.parametrize("run", [run_command_line, command_line.run_command_line])
def test_a_kind_that_there_is_not_is_refused_with_those_that_there_are(
    run: Callable[[list[str]], int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["plugins", "--kind", "skill-render"]) == 2
    told = capsys.readouterr().err
    assert "'skill-render'" in told
    assert all(f"'{kind}'" in told for kind in GROUPS)


def test_doctor_lists_every_distribution_that_agentd_brings() -> None:
    listed = {check.name for check in _distributions()}
    root = tomllib.loads(Path(__file__).parents[2].joinpath("pyproject.toml").read_text("utf-8"))
    brought = {re.split(r"[=<>~\[ ;]", one)[0] for one in root["project"]["dependencies"]}
    assert "agentd-history" in brought
    assert {name for name in brought if name.startswith("agentd-")} - listed == set()

"""`agentd plugins`, as a person and as a program see it."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
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

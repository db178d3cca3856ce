"""The abuse suite in a real srt: what code can do is what the checked-in lists say, as root and as anybody else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import sandbox
from agentd_testing.escapes import load_cases, load_expectation
from unprivileged import run_as_nobody

LISTS = ("srt", "srt-strict")
TIMEOUT_S = 110
PROGRAM = "from agentd.__main__ import main; main()"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(TIMEOUT_S + 10)]


@pytest.fixture(params=LISTS)
def known(request: pytest.FixtureRequest, repository: Path) -> Path:
    """The file of a list; its options choose the profile."""
    sandbox.need_srt()
    return repository / "docs/escapes" / f"{request.param}.yaml"


def arguments(known: Path) -> list[str]:
    return ["escape-test", "srt", "--json", "--expect", str(known)]


def check(done: subprocess.CompletedProcess[str], known: Path) -> None:
    assert done.stdout, done.stderr
    data = json.loads(done.stdout)
    assert data["differences"] == []
    assert done.returncode == 0, done.stderr
    assert len(data["cases"]) == len(load_cases())
    was_open = {f"{case['group']}/{case['id']}" for case in data["cases"] if case["outcome"] == "open"}
    listed = load_expectation(known).known_open
    always = {name for name, entry in listed.items() if entry.when == "always"}
    assert always <= was_open <= set(listed)
    assert data["summary"]["blocked"] > 130, "hardly a case was tried"


def test_what_is_open_is_what_the_list_says(known: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments(known)],
        env={**os.environ, "AGENTD_SRT": str(sandbox.CLI)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    check(done, known)


@pytest.mark.skipif(os.geteuid() != 0, reason="the test above ran as an unprivileged user already")
def test_the_same_is_open_to_an_unprivileged_user(known: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="agentd-nobody-") as folder:
        copy = Path(shutil.copy(known, folder))  # the lists may lie where that user cannot read
        env = {"AGENTD_SRT": str(sandbox.CLI)}
        done = run_as_nobody(PROGRAM, *arguments(copy), home=Path(folder), env=env, timeout_s=TIMEOUT_S)
    check(done, known)

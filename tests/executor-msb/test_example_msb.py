"""The example of the documentation: on the stand-in to its end, and as it stands on a host that cannot boot."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from agentd_demo.replay import ReplayServer
from agentd_executor_msb import probes
from places import ROOT, SUPPORT
from standin import BWRAP, GUEST_PYTHON

EXAMPLE = ROOT / "docs" / "examples" / "ptc_microsandbox.py"
ON_STAND_IN = f"""
import runpy, sys
sys.path.insert(0, {str(SUPPORT)!r})
import microsandbox, standin
from agentd_executor_msb import probes
microsandbox.Sandbox = standin.StandIn
probes.virtualisation_problem = lambda: ""
probes.unpulled_problem = standin.unpulled_problem
runpy.run_path({str(EXAMPLE)!r}, run_name="__main__")
"""
TURNS = [
    "I look.\n\n```bash:execute\npwd; uname -s; ls\n```\n",
    "Now.\n\n```python:execute\nfrom lib.tools import square_root\nprint(square_root(number=144))\n```\n",
    "Linux, and 12.",
]


def run(command: list[str], cwd: Path) -> tuple[subprocess.CompletedProcess[str], ReplayServer]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "AGENTD_"))}
    with ReplayServer(TURNS) as server:
        env |= {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "none", "MSB_PYTHON": GUEST_PYTHON}
        env |= {"AGENTD_STANDIN_HOME": str(cwd / "standin"), "PYTHONUNBUFFERED": "1"}
        done = subprocess.run(
            [sys.executable, *command], cwd=cwd, env=env, capture_output=True, text=True, timeout=60
        )
    return done, server


@pytest.mark.slow
@pytest.mark.skipif(BWRAP is None, reason="bubblewrap is missing: apt-get install bubblewrap")
def test_the_example_runs_to_its_end_on_the_stand_in(tmp_path: Path) -> None:
    done, server = run(["-c", ON_STAND_IN], tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    assert "/workspace\nLinux\nskills\n" in done.stdout
    assert "12.0" in server.requests[2].last
    assert done.stdout.endswith("Linux, and 12.")
    assert list((tmp_path / "standin").iterdir()) == []  # the microVM was removed


@pytest.mark.skipif(not probes.virtualisation_problem(), reason="this host can boot microVMs")
def test_the_example_says_in_a_sentence_why_it_cannot_run_here(tmp_path: Path) -> None:
    done, _ = run([str(EXAMPLE)], tmp_path)
    assert done.returncode == 1
    assert done.stderr.strip() == probes.virtualisation_problem()
    assert done.stdout == ""

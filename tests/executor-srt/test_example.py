"""The example program of the documentation runs, unchanged, in a real sandbox."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import sandbox
from agentd_demo.replay import ReplayServer

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "ptc_sandbox_runtime.py"


def test_the_example_shows_what_the_sandbox_refuses_and_what_it_gives(tmp_path: Path) -> None:
    sandbox.need_srt()
    turns = [
        "I try.\n\n```bash:execute\necho x >> /etc/hosts; echo x > AGENTS.md\n```\n",
        "```python:execute\nfrom lib.tools import square_root\nprint(square_root(number=144))\n```\n",
        "The square root of 144 is 12.",
    ]
    with ReplayServer(turns) as server:
        env = {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "none", "AGENTD_SRT": str(sandbox.CLI)}
        done = subprocess.run(
            [sys.executable, EXAMPLE],
            cwd=tmp_path,
            env={**os.environ, **env},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.startswith("srt ")
        assert "/etc/hosts: " in server.requests[1].last
        assert "12.0" in server.requests[2].last
    assert "look at AGENTS.md: instructions for coding agents" in done.stdout
    assert sorted(path.name for path in (tmp_path / "workspace").iterdir()) == ["AGENTS.md", "skills"]

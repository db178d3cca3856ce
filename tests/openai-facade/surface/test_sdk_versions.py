"""The oldest SDK that `agentd-openai` takes, and the newest there is: the whole surface with each."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from places import ROOT

pytestmark = [pytest.mark.network, pytest.mark.timeout(600)]

HERE = Path(__file__).parent


def oldest() -> str:
    """The lower bound of the distribution."""
    project = tomllib.loads((ROOT / "plugins/openai-facade/pyproject.toml").read_text(encoding="utf-8"))
    bounds = [re.fullmatch(r"openai>=([\d.]+)", d) for d in project["project"]["dependencies"]]
    return next(b[1] for b in bounds if b)


@pytest.mark.parametrize("which", ["oldest", "newest"])
def test_the_whole_surface_is_patched_with_this_sdk(which: str) -> None:
    wanted = f"openai=={oldest()}" if which == "oldest" else "openai"
    folder = ROOT / ".cache" / "venvs" / (wanted.replace("==", "-") if which == "oldest" else "openai-newest")
    if not (folder / "ready").exists():
        # In front of what is installed, whose versions of everything else both SDKs work with.
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--upgrade", "--no-deps"]
        subprocess.run(
            [*install, "--target", folder, wanted, "distro"],
            check=True,
            stdin=subprocess.DEVNULL,
            timeout=300,
        )
        (folder / "ready").touch()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", HERE / "test_surface.py"],
        env={**os.environ, "PYTHONPATH": str(folder)},
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]

"""The oldest SDK that `agentd-openai` takes, and the newest there is: the whole surface with each."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
from places import ROOT

pytestmark = [pytest.mark.network, pytest.mark.timeout(1200)]

HERE = Path(__file__).parent
SURFACE = [
    HERE / "test_surface.py",
    HERE / "test_passed_through.py",
    ROOT / "tests/model-openai/test_quick_chat.py",
    ROOT / "tests/model-openai/test_wire.py",
]


def oldest() -> str:
    """The lower bound of the distribution."""
    project = tomllib.loads((ROOT / "plugins/openai-facade/pyproject.toml").read_text(encoding="utf-8"))
    bounds = [re.fullmatch(r"openai>=([\d.]+)", d) for d in project["project"]["dependencies"]]
    return next(b[1] for b in bounds if b)


def is_ready(folder: Path, which: str) -> bool:
    """Tell whether the SDK is there; the newest of another day may have a newer one by now."""
    mark = folder / "ready"
    return mark.exists() and (which == "oldest" or time.time() - mark.stat().st_mtime < 86_400)


@pytest.mark.parametrize("which", ["oldest", "newest"])
def test_the_whole_surface_is_patched_with_this_sdk(which: str) -> None:
    wanted = f"openai=={oldest()}" if which == "oldest" else "openai"
    folder = ROOT / ".cache" / "venvs" / (wanted.replace("==", "-") if which == "oldest" else "openai-newest")
    if not is_ready(folder, which):
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
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *map(str, SURFACE)],
        env={**os.environ, "PYTHONPATH": str(folder)},
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]

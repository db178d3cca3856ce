"""Programs of tests that run as an unprivileged user while the tests themselves are root's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

__all__ = ["NOBODY", "PYTHON", "importable_paths", "run_as_nobody"]

NOBODY = 65534
PYTHON = "/usr/bin/python3"  # the tests' own interpreter may lie in a folder that is root's alone


def run_as_nobody(
    program: str, *arguments: str, home: Path, env: dict[str, str] | None = None, timeout_s: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run a Python program that can import agentd and the tests' helpers. `home` is given to that user."""
    os.chown(home, NOBODY, NOBODY)
    prelude = f"import sys; sys.path[:0] = {importable_paths()!r}\n"
    return subprocess.run(
        [PYTHON, "-c", prelude + program, *arguments],
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        env={"PATH": os.environ["PATH"], "HOME": str(home), **(env or {})},
        cwd=home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
    )


def importable_paths() -> list[str]:
    """What the system's interpreter needs to import agentd, if it is of our version."""
    version = "import sys; print(sys.version_info[:2])"
    done = subprocess.run([PYTHON, "-c", version], capture_output=True, text=True, check=False)
    if done.stdout.strip() != str(sys.version_info[:2]):
        ours = ".".join(map(str, sys.version_info[:2]))
        pytest.skip(f"needs {PYTHON} of version {ours}, which others than root may run")
    here = str(Path(__file__).resolve().parent)
    return [here, *(path for path in sys.path if "site-packages" in path or path.endswith("/src"))]

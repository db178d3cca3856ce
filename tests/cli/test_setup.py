from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash: apt-get install bash")

# An interpreter as Debian has it without python3-venv, until `apt-get` has left a mark.
PYTHON = """#!/bin/bash
if [ "${2:-}" = 'import ensurepip, venv' ] && [ ! -e "$FAKE/installed" ]; then exit 1; fi
if [ "${1:-}" = -m ] && [ "${2:-}" = venv ]; then echo 'no room for a venv here'; exit 9; fi
exec "$REAL_PYTHON" "$@"
"""

Setup = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def setup(tmp_path: Path, repository: Path) -> Setup:
    """Run scripts/setup in a copy of its own, with programs that pretend to be a bare Debian machine."""
    fake = tmp_path / "bin"
    fake.mkdir()
    checkout = tmp_path / "checkout"
    (checkout / "scripts").mkdir(parents=True)
    shutil.copy(repository / "scripts" / "setup", checkout / "scripts" / "setup")

    def program(name: str, text: str) -> None:
        (fake / name).write_text(text)
        (fake / name).chmod(0o755)

    def run(*, root: bool = True, python: str = PYTHON) -> subprocess.CompletedProcess[str]:
        program("python3", python)
        # what the script finds behind the name is the fake itself
        program("id", f"#!/bin/sh\necho {0 if root else 1000}\n")
        program(
            "apt-get",
            '#!/bin/sh\necho "$@" >> "$FAKE/apt"\ncase "$*" in *install*) touch "$FAKE/installed";; esac\n',
        )
        env = {
            **os.environ,
            "FAKE": str(fake),
            "REAL_PYTHON": sys.executable,
            "PATH": f"{fake}:/usr/bin:/bin",
        }
        script = checkout / "scripts" / "setup"
        # find_python resolves the name to the real executable: keep the fake one instead
        text = script.read_text().replace("printf '%s\\n' \"$found\"", f"printf '%s\\n' '{fake}/python3'")
        script.write_text(text)
        return subprocess.run(
            ["bash", str(script), ".venv"],
            env=env,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
        )

    return run


def test_without_root_the_missing_debian_package_is_named_with_its_command(setup: Setup) -> None:
    result = setup(root=False)
    assert result.returncode == 1
    assert "needs root" in result.stderr
    assert "sudo sh -c 'apt-get update" in result.stderr
    assert f"python3.{sys.version_info.minor}-venv" in result.stderr


def test_root_gets_the_missing_debian_package_installed_and_a_failing_step_is_shown(
    setup: Setup, tmp_path: Path
) -> None:
    result = setup(root=True)
    asked = (tmp_path / "bin" / "apt").read_text()
    assert f"install -q -y python3.{sys.version_info.minor}-venv" in asked
    assert result.returncode == 1  # the pretended interpreter cannot make the environment itself
    assert "no room for a venv here" in result.stderr
    assert "this step failed" in result.stderr


def test_an_old_python_is_refused_with_what_to_do(setup: Setup, tmp_path: Path) -> None:
    old = '#!/bin/sh\necho "SyntaxError" >&2; exit 1\n'
    for name in ("python3.11", "python3.12", "python3.13", "python3.14"):
        (tmp_path / "bin" / name).write_text(old)
        (tmp_path / "bin" / name).chmod(0o755)
    result = subprocess.run(
        ["bash", str(tmp_path / "checkout" / "scripts" / "setup"), ".venv"],
        env={**os.environ, "PYTHON": str(tmp_path / "bin" / "python3.11")},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )
    assert result.returncode == 1
    assert "is no CPython >= 3.11" in result.stderr
    assert "make PYTHON=" in result.stderr


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make: apt-get install make")
def test_make_alone_lists_the_targets(repository: Path) -> None:
    result = subprocess.run(["make"], cwd=repository, capture_output=True, text=True, check=True)
    for target in ("demo", "test", "lint", "docs", "bench", "clean", "help"):
        assert f"make {target} " in result.stdout


def test_what_is_pinned_is_a_name_and_a_version_and_nothing_else(repository: Path) -> None:
    import re

    for line in (repository / "constraints.txt").read_text().splitlines():
        assert line.startswith("#") or re.fullmatch(r"[a-z0-9-]+==[0-9][\w.]*", line), line

"""One set of wheels and one environment for each combination, shared by all packaging tests."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

ROOT = Path(__file__).resolve().parents[2]


def _pip(*arguments: str | Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", *map(str, arguments), "--quiet", "--disable-pip-version-check"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr


@attrs.frozen
class Environment:
    """A clean virtual environment with some of the wheels."""

    folder: Path

    def run(self, *command: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run a command of this environment, away from the source tree and its settings."""
        keep = {k: v for k, v in os.environ.items() if not k.startswith(("AGENTD_", "PYTHON", "OPENAI_"))}
        return subprocess.run(
            [str(self.folder / "bin" / command[0]), *command[1:]],
            cwd=self.folder,
            env={**keep, **environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def python(self, code: str) -> subprocess.CompletedProcess[str]:
        """Run Python source."""
        return self.run("python", "-I", "-c", code)


@pytest.fixture(scope="session")
def projects() -> dict[str, Path]:
    """The folder of each distribution by the folder's name; the meta-distribution is `agentd`."""
    plugins = {path.parent.name: path.parent for path in sorted(ROOT.glob("plugins/*/pyproject.toml"))}
    return {"agentd": ROOT, "core": ROOT / "core", **plugins}


@pytest.fixture(scope="session")
def wheels(projects: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a wheel of each distribution and of everything that they need."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "wheels"
    with open(f"{folder}.lock", "w") as lock:  # the first of the processes that test builds them for all
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            building = folder.with_name("wheels-unfinished")
            # hatchling is installed beside the tests: no environment for each build
            wheel = ("wheel", "--no-build-isolation", "--wheel-dir", building)
            adapters = [
                path for path in projects.values() if path != ROOT and (path / "constraints.txt").is_file()
            ]
            _pip(*wheel, *(path for path in projects.values() if path not in adapters))
            if adapters:
                _pip(*wheel, "--no-deps", *adapters)  # their frameworks do not go together
            building.rename(folder)
    return folder


@pytest.fixture(scope="session")
def environment(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Environment]:
    """Make, once for each combination, an environment with these distributions."""
    made: dict[tuple[str, ...], Environment] = {}

    def make(*distributions: str) -> Environment:
        if distributions not in made:
            folder = tmp_path_factory.mktemp("environment")
            venv.create(folder, with_pip=False, symlinks=True)
            target = ["--python", folder / "bin" / "python"]
            offline = ["--no-index", "--find-links", wheels]
            _pip(*target, "install", *offline, "--no-compile", *distributions)
            made[distributions] = Environment(folder)
        return made[distributions]

    return make

"""Projects that `agentd new-plugin` writes, put where Python finds them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import attrs
from agentd.hookspecs import GROUPS
from agentd_new_plugin.project import PluginProject

__all__ = ["KINDS", "Written", "agentd", "install", "write"]

KINDS = tuple(kind.replace("_", "-") for kind in GROUPS)


@attrs.frozen
class Written:
    """A project on disk. `site` is a folder for PYTHONPATH in which it is installed."""

    project: PluginProject
    folder: Path
    site: Path

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Python in the project's folder, with the project installed."""
        return _run([sys.executable, *arguments], self.folder, self.site)


def write(into: Path, kind: str, name: str = "acme") -> tuple[PluginProject, Path]:
    """Write a project as the command does; return it with its folder."""
    done = agentd(["new-plugin", kind, name, "--into", str(into)], cwd=into)
    assert done.returncode == 0, done.stderr
    project = PluginProject(kind.replace("-", "_"), name)
    return project, into / project.distribution


def install(folder: Path, site: Path) -> None:
    """Install a project from its folder, without a network, into a folder of its own."""
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    done = _run([sys.executable, "-m", "pip", "install", *options, "--target", str(site), "."], folder)
    assert done.returncode == 0, done.stderr


def agentd(
    arguments: Sequence[str], *, cwd: Path, site: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `agentd` as a person does, perhaps with a plugin installed."""
    return _run([sys.executable, "-m", "agentd", *arguments], cwd, site)


def _run(command: Sequence[str], cwd: Path, site: Path | None = None) -> subprocess.CompletedProcess[str]:
    # The plugins of this test run are none of the project's; neither is what is said about colours.
    env = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "PYTHONPATH"))}
    if site is not None:
        env["PYTHONPATH"] = str(site)
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=540, check=False)

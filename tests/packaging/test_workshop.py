"""The files that people and CI work with: workflows, templates, hooks, the one version, the list of releases."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
YAML_FILES = [ROOT / ".pre-commit-config.yaml", *sorted((ROOT / ".github").rglob("*.yml"))]
MAKE = re.compile(r"\bmake (?:-\S+ )*([a-z][a-z-]*)")
TARGET = re.compile(r"^([a-z][a-z-]*):", re.MULTILINE)


def commands(part: Any) -> Iterator[str]:
    """All shell commands of a parsed file, `run` of workflows and `entry` of hooks."""
    if isinstance(part, dict):
        yield from (part[key] for key in ("run", "entry") if isinstance(part.get(key), str))
    if isinstance(part, dict | list):
        for inner in part.values() if isinstance(part, dict) else part:
            yield from commands(inner)


def version_script(script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(script), *arguments]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("path", YAML_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_parses_and_names_only_make_targets_that_exist(path: Path) -> None:
    targets = set(TARGET.findall((ROOT / "Makefile").read_text()))
    parsed = yaml.safe_load(path.read_text())
    assert parsed
    named = {target for command in commands(parsed) for target in MAKE.findall(command)}
    assert named <= targets


def test_every_job_of_a_workflow_ends_in_time_and_the_workflow_says_its_rights() -> None:
    for path in sorted((ROOT / ".github/workflows").glob("*.yml")):
        workflow = yaml.safe_load(path.read_text())
        assert "permissions" in workflow, path.name
        assert [name for name, job in workflow["jobs"].items() if "timeout-minutes" not in job] == [], (
            path.name
        )


def test_every_project_file_has_the_version_of_the_one_place() -> None:
    done = version_script(ROOT / "scripts/version", "--check")
    assert done.returncode == 0, done.stderr


def test_a_new_version_is_written_into_versions_pins_and_extras_and_a_forgotten_one_is_found(
    tmp_path: Path,
) -> None:
    script = tmp_path / "scripts/version"
    script.parent.mkdir()
    shutil.copy(ROOT / "scripts/version", script)
    root, plugin = tmp_path / "pyproject.toml", tmp_path / "plugins/x/pyproject.toml"
    plugin.parent.mkdir(parents=True)
    root.write_text(
        '[project]\nname = "agentd"\nversion = "1.0"\ndependencies = ["agentd-x[a,b]==1.0", "rich>=1.0"]\n'
        '[project.optional-dependencies]\nall = ["agentd[x]==1.0"]  # 1.0\n[tool.other]\nversion = "1.0"\n'
    )
    plugin.write_text('[project]\nname = "agentd-x"\nversion = "0.9"\n')
    runner = tmp_path / "plugins/runner/src/agentd_runner/inside/frames.py"
    runner.parent.mkdir(parents=True)
    runner.write_text('RELEASE = "1.0"  # of this one\n')
    done = version_script(script, "--set", "1.1rc1")
    assert done.returncode == 0, done.stderr
    assert root.read_text() == (
        '[project]\nname = "agentd"\nversion = "1.1rc1"\n'
        'dependencies = ["agentd-x[a,b]==1.1rc1", "rich>=1.0"]\n'
        '[project.optional-dependencies]\nall = ["agentd[x]==1.1rc1"]  # 1.0\n[tool.other]\nversion = "1.0"\n'
    )
    assert runner.read_text() == 'RELEASE = "1.1rc1"  # of this one\n'
    assert version_script(script).stdout == "1.1rc1\n"

    plugin.write_text(
        '[project]\nname = "agentd-x"\nversion = "0.9"\ndependencies = ["agentd", "agentd-y==1.1rc1"]\n'
    )
    runner.write_text('RELEASE = "1.0"\n')
    done = version_script(script, "--check")
    assert done.returncode == 1
    assert "frames.py: RELEASE is not '1.1rc1'" in done.stderr
    assert "plugins/x/pyproject.toml: version is '0.9', VERSION says '1.1rc1'" in done.stderr
    assert "'agentd' is not pinned to ==1.1rc1" in done.stderr
    assert "'agentd-y==1.1rc1' names no distribution of this repository" in done.stderr


def test_releasing_lists_every_distribution_with_its_folder(projects: dict[str, Path]) -> None:
    text = (ROOT / "RELEASING.md").read_text()
    for folder in projects.values():
        name = tomllib.loads((folder / "pyproject.toml").read_text())["project"]["name"]
        where = "the root" if folder == ROOT else f"`{folder.relative_to(ROOT)}`"
        assert re.search(rf"^\| `{name}`[^|]*\| {where} \|$", text, re.MULTILINE), f"{name} in {where}"

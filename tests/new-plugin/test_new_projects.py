"""Every project that `agentd new-plugin` writes works as it is: it loads, its tests pass, and linters are content."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from projects import KINDS, Written, agentd, install, write

pytestmark = pytest.mark.slow

NAMES = ("x", "acme", "a-name-of-20-letters")
"""The shortest, a usual one and the longest: the lines of a template fit with all of them."""


@pytest.fixture(scope="module", params=KINDS)
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Written:
    """A project of each kind, installed."""
    folder = tmp_path_factory.mktemp("new")
    project, at = write(folder, request.param)
    install(at, folder / "site")
    return Written(project, at, folder / "site")


def test_the_new_plugin_is_loaded(written: Written) -> None:
    done = agentd(["plugins", "--check", "--json"], cwd=written.folder, site=written.site)
    mine = [r for r in json.loads(done.stdout) if r["distribution"] == written.project.distribution]
    assert [(r["kind"], r["name"], r["state"], r["error"]) for r in mine] == [
        (written.project.kind, "acme", "loaded", "")
    ]
    assert done.returncode == 0, done.stdout


@pytest.mark.timeout(600)  # an executor's contract runs twice, on asyncio and on trio
def test_the_tests_of_a_new_project_pass_as_they_are(written: Written) -> None:
    # In the folder of all runs, it would close that to others, in which sandboxes of other tests are at work.
    own = ("--basetemp", str(written.site.parent / "own"))
    done = written.python("-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", *own)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


def test_a_new_project_is_typed_strictly(written: Written) -> None:
    done = written.python("-m", "mypy", "src", "tests")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", KINDS)
def test_ruff_has_nothing_to_say_whatever_the_name(kind: str, name: str, tmp_path: Path) -> None:
    project, folder = write(tmp_path, kind, name)
    found = Written(project, folder, tmp_path)
    for command in (["check"], ["format", "--check", "--diff"]):
        done = found.python("-m", "ruff", *command, "--no-cache", ".")
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_project_says_what_it_needs_and_nothing_else_of_agentd(kind: str, tmp_path: Path) -> None:
    """Each distribution of agentd whose package a module imports is a dependency, and no other one."""
    project, folder = write(tmp_path, kind)
    settings = tomllib.loads((folder / "pyproject.toml").read_text())
    sources = "".join(path.read_text() for path in (folder / "src").rglob("*.py"))
    named = {line.partition(">=")[0] for line in settings["project"]["dependencies"]}
    assert "agentd-core" in named
    assert ("agentd_runner" in sources) == ("agentd-runner" in named)
    assert ('"agentskills"' in sources) == ("agentd-skills" in named)
    assert ("import click" in sources) == ("click" in named)
    assert ("import attrs" in sources) == ("attrs" in named)
    assert ("import anyio" in sources) == ("anyio" in named)
    assert (folder / "src" / project.package / "py.typed").is_file()

"""What all distributions declare alike."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PINNED = re.compile(r"(agentd[\w-]*)(?:\[[\w,]+\])?==(\S+)")
BOUND = re.compile(r'"(?P<name>[A-Za-z][\w.-]*)(?:\[[\w,]+\])?>=(?P<bound>[\w.]+)"')

AS = re.compile(r"\bas (?:the )?(?P<other>core|agentd-[\w-]+)")
NAMED_OTHERWISE = {"openai-facade": "openai"}
"""Folders whose distributions have other names than they."""


def read(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "pyproject.toml").read_text())["project"]


def requirements(project: dict[str, Any]) -> Iterator[str]:
    yield from project.get("dependencies", ())
    for extra in project.get("optional-dependencies", {}).values():
        yield from extra


def test_all_distributions_carry_one_version_and_require_exactly_it(projects: dict[str, Path]) -> None:
    declared = {name: read(folder) for name, folder in projects.items()}
    (version,) = {project["version"] for project in declared.values()}
    for name, project in declared.items():
        for requirement in requirements(project):
            if requirement.startswith("agentd"):
                pinned = PINNED.fullmatch(requirement)
                assert pinned, f"{name}: {requirement!r} is not pinned"
                assert pinned[2] == version, f"{name}: {requirement!r}"


def test_every_plugin_requires_core_and_is_named_after_its_folder(projects: dict[str, Path]) -> None:
    for name, folder in projects.items():
        project = read(folder)
        if name not in ("agentd", "core"):
            assert project["name"] == f"agentd-{NAMED_OTHERWISE.get(name, name)}"
            assert any(r.startswith("agentd-core==") for r in project["dependencies"])


def test_core_requires_no_plugin(projects: dict[str, Path]) -> None:
    assert not [r for r in requirements(read(projects["core"])) if r.startswith("agentd")]


def bounds(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Name, lower bound and comment of each requirement that has a bound, as the project file says them."""
    for line in (folder / "pyproject.toml").read_text().splitlines():
        for match in BOUND.finditer(line):
            yield match["name"], match["bound"], line.partition("#")[2]


def test_every_lower_bound_gives_its_reason_or_names_the_distribution_that_does(
    projects: dict[str, Path],
) -> None:
    folders = {read(folder)["name"]: folder for folder in projects.values()}
    seen = 0
    for name, folder in projects.items():
        for requirement, bound, comment in bounds(folder):
            seen += 1
            if other := AS.search(comment):
                there = folders["agentd-core" if other["other"] == "core" else other["other"]]
                comment = next((c for n, b, c in bounds(there) if (n, b) == (requirement, bound)), "")
            assert f"{bound}: " in comment, f"{name}: no reason for {requirement}>={bound} beside it"
    assert seen >= len(projects)


def test_every_requirement_of_others_has_a_lower_bound(projects: dict[str, Path]) -> None:
    for name, folder in projects.items():
        for requirement in requirements(read(folder)):
            assert requirement.startswith("agentd") or ">=" in requirement, f"{name}: {requirement}"

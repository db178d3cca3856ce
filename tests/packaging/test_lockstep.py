"""What all distributions declare alike."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PINNED = re.compile(r"(agentd[\w-]*)(?:\[[\w,]+\])?==(\S+)")
BOUND = re.compile(r'"(?P<name>[A-Za-z][\w.-]*)(?:\[[\w,]+\])?>=(?P<bound>[\w.]+)"')


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
            assert project["name"] == f"agentd-{name}"
            assert any(r.startswith("agentd-core==") for r in project["dependencies"])


def test_core_requires_no_plugin(projects: dict[str, Path]) -> None:
    assert not [r for r in requirements(read(projects["core"])) if r.startswith("agentd")]


def test_every_lower_bound_gives_its_reason(projects: dict[str, Path]) -> None:
    seen = 0
    for name, folder in projects.items():
        for line in (folder / "pyproject.toml").read_text().splitlines():
            for match in BOUND.finditer(line):
                seen += 1
                _, _, comment = line.partition("#")
                assert f"{match['bound']}: " in comment, f"{name}: no reason for {match[0]} beside it"
    assert seen > 10


def test_every_requirement_of_others_has_a_lower_bound(projects: dict[str, Path]) -> None:
    for name, folder in projects.items():
        for requirement in requirements(read(folder)):
            assert requirement.startswith("agentd") or ">=" in requirement, f"{name}: {requirement}"

"""What the demo works on: the distributions in this checkout, or the installed packages if there is none."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path

import attrs

__all__ = ["Distribution", "count_lines", "find_distributions", "find_root", "wrong_lines"]


@attrs.frozen
class Distribution:
    """A distribution's name and the folder of its Python code."""

    name: str
    folder: Path


def find_root() -> Path:
    """Return the root of the checkout that this module runs from, or the folder of the installed packages."""
    packages = Path(__file__).resolve().parents[1]
    checkout = packages.parents[2]  # of ROOT/plugins/demo/src
    return checkout if (checkout / "core" / "pyproject.toml").is_file() else packages


def find_distributions(root: Path) -> list[Distribution]:
    """List the distributions below `root`, a checkout or a folder of installed packages, by name."""
    projects = [root / "core" / "pyproject.toml", *sorted(root.glob("plugins/*/pyproject.toml"))]
    found = [
        Distribution(tomllib.loads(project.read_text("utf-8"))["project"]["name"], project.parent / "src")
        for project in projects
        if project.is_file()
    ]
    if not found:
        packages = sorted(path.parent for path in root.glob("agentd*/py.typed"))
        found = [Distribution(_name(package), package) for package in packages]
    return sorted(found, key=lambda distribution: distribution.name)


def _name(package: Path) -> str:
    return "agentd-core" if package.name == "agentd" else package.name.replace("_", "-")


def count_lines(folder: Path) -> tuple[int, int]:
    """Return how many Python files are below `folder`, and how many lines they have."""
    files = list(folder.rglob("*.py"))
    return len(files), sum(len(file.read_bytes().splitlines()) for file in files)


def wrong_lines(report: str, distributions: Sequence[Distribution]) -> list[str]:
    """Return what a report lacks: a line with the name and the number of lines of each distribution."""
    lines = [line.replace(",", "").replace("`", " ").replace("*", " ") for line in report.splitlines()]
    missing = []
    for item in distributions:
        count = count_lines(item.folder)[1]
        wanted = str(count)
        if not any(item.name in line and wanted in line.replace("|", " ").split() for line in lines):
            missing.append(f"{item.name}: {count} lines")
    return missing

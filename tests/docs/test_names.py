"""Every module, class and function that a page names with its path is there, and so is every extra."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from pkgutil import resolve_name

import pytest
from agentd.hookspecs import GROUPS

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "core/README.md")),
    *sorted(ROOT.glob("docs/**/*.md")),
    *sorted(ROOT.glob("plugins/*/README.md")),
]
PATH = re.compile(r"(?<![\w./\"-])agentd(?:_[a-z]\w*)?(?:\.[A-Za-z_]\w*)+(?!\w*-)")
EXTRA = re.compile(r"\b(agentd[a-z-]*)\[([a-z,]+)\]")
GROUP_NAMES = {*GROUPS.values(), "agentd.exports", "agentd.command_line"}
LOGGERS = {
    name
    for path in [*ROOT.glob("core/src/**/*.py"), *ROOT.glob("plugins/*/src/**/*.py")]
    for name in re.findall(r"getLogger\(\"(agentd[\w.]*)\"\)", path.read_text(encoding="utf-8"))
}
FILES = re.compile(r"\.(md|sock|toml|yaml|service|zip)$")
WRITTEN_IN_A_TUTORIAL = "agentd_executor_quiet."


def extras() -> dict[str, set[str]]:
    """The extras of each distribution."""
    files = [
        ROOT / "pyproject.toml",
        ROOT / "core" / "pyproject.toml",
        *ROOT.glob("plugins/*/pyproject.toml"),
    ]
    projects = [tomllib.loads(path.read_text(encoding="utf-8"))["project"] for path in files]
    return {project["name"]: set(project.get("optional-dependencies", ())) for project in projects}


def gone(text: str) -> Iterator[str]:
    """What the text names by its path and cannot be imported."""
    imported = set(re.findall(r"^ *(?:from|import) (agentd[\w.]*)", text, re.MULTILINE))
    other = (GROUP_NAMES | LOGGERS) - imported
    for path in sorted(set(PATH.findall(text))):
        if path in other or FILES.search(path) or path.startswith(WRITTEN_IN_A_TUTORIAL):
            continue
        try:
            resolve_name(path)
        except (ImportError, AttributeError):
            yield path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_names_what_is_there(page: Path) -> None:
    assert list(gone(page.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: str(page.relative_to(ROOT))
)
def test_a_page_names_extras_that_there_are(page: Path) -> None:
    known, text = extras(), page.read_text(encoding="utf-8")
    text = re.sub(
        r"^\| `agentd-core\[\w+\]` \|", "|", text, flags=re.M
    )  # the changelog says where old ones went
    named = [(name, extra) for name, list_ in EXTRA.findall(text) for extra in list_.split(",")]
    assert [(name, extra) for name, extra in named if extra not in known.get(name, ())] == []


def test_the_changelog_says_where_each_inner_module_has_gone() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    _, _, table = text.partition("\n| 0.9.0 | now | distribution |\n")
    rows = [row.split("|") for row in table.partition("\n\n")[0].splitlines()[1:]]
    moved = [path for row in rows for path in re.findall(r"`(agentd[\w.]+)`", row[2])]
    assert moved
    assert list(gone(" ".join(moved))) == []
    assert {name for row in rows for name in re.findall(r"`([a-z-]+)`", row[3])} <= set(extras())

"""Every module, class and function that a page names with its path is there, and so is every extra."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from pkgutil import resolve_name

import pytest
from agentd.hookspecs import GROUPS
from agentd_daemon.places import GROUP as PLACES

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "core/README.md")),
    *sorted(ROOT.glob("docs/**/*.md")),
    *sorted(ROOT.glob("plugins/*/README.md")),
]
PATH = re.compile(r"(?<![\w./\"-])agentd(?:_[a-z]\w*)?(?:\.[A-Za-z_]\w*)+(?!\w*-)")
EXTRA = re.compile(r"\b(agentd[a-z-]*)\[([a-z,]+)\]")
GROUP_NAMES = {*GROUPS.values(), "agentd.exports", "agentd.command_line", PLACES}
LOGGERS = {
    name
    for path in [*ROOT.glob("core/src/**/*.py"), *ROOT.glob("plugins/*/src/**/*.py")]
    for name in re.findall(r"getLogger\(\"(agentd[\w.]*)\"\)", path.read_text(encoding="utf-8"))
}
FILES = re.compile(r"\.(md|sock|toml|yaml|service|zip)$")
IN_THE_SANDBOX = {"agentd.show"}
"""What the package `agentd` has in a sandbox alone."""
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
    other = (GROUP_NAMES | LOGGERS) - imported | IN_THE_SANDBOX
    for path in sorted(set(PATH.findall(text))):
        if path in other or FILES.search(path) or path.startswith(WRITTEN_IN_A_TUTORIAL):
            continue
        try:
            resolve_name(path)
        except (ImportError, AttributeError):
            yield path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_names_what_is_there(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in ROOT.glob(
        "plugins/*/constraints.txt"
    ):  # not installed here; what they name needs no framework
        monkeypatch.syspath_prepend(file.parent / "src")
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


def test_what_a_docstring_lists_is_a_list_in_the_reference_as_well() -> None:
    """The reference reads `:param NAME:` and `:raises NAME:`; below any other heading it makes one paragraph of all."""
    found = []
    for path in [*ROOT.glob("core/src/**/*.py"), *ROOT.glob("plugins/*/src/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (ast.get_docstring(node) or "").splitlines()
                if any(
                    re.fullmatch(r" *(Parameters|Args|Arguments|Returns|Raises|Yields):?", x) for x in lines
                ):
                    found.append(f"{path.relative_to(ROOT)}: {getattr(node, 'name', 'the module')}")
    assert found == []

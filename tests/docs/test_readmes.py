"""Every distribution has a README of one screen: what it is, how to install and use it, its entry points."""

from __future__ import annotations

import ast
import builtins
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = [ROOT / "core", *sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_distribution_says_what_it_is_and_how_it_is_used(folder: Path) -> None:
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    page = (folder / "README.md").read_text(encoding="utf-8")
    assert page.startswith(f"# {project['name']}\n")
    assert f"pip install {project['name']}" in page
    assert len(page.splitlines()) <= 60
    assert "```" in page
    for group, points in project.get("entry-points", {}).items():
        for name in points:
            assert f"| `{group}` | `{name}` |" in page
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page)
    assert [link for link in links if not (folder / link).exists()] == []


def test_agentd_is_installed_with_a_version_while_none_of_this_line_is_final() -> None:
    version = (ROOT / "VERSION").read_text(encoding="utf-8").strip()
    bare = re.compile(r"[\"']agentd\[[\w,]+\][\"']|^(?:\$ )?pip install (?:.* )?\"?agentd\"?(?= |$)")
    pages = [ROOT / "README.md", *(folder / "README.md" for folder in FOLDERS)]
    pages += [path for path in (ROOT / "docs").rglob("*") if path.suffix in (".md", ".py", ".yaml")]
    found = [
        f"{page.relative_to(ROOT)}:{number}: {line.strip()}"
        for page in pages
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1)
        if bare.search(line.strip())
    ]
    assert "rc" not in version or found == []


def test_the_table_of_the_front_page_has_every_distribution() -> None:
    _, _, table = (ROOT / "README.md").read_text(encoding="utf-8").partition("| distribution | brings |\n")
    listed = set()
    for row in table.partition("\n\n")[0].splitlines()[1:]:
        names = re.findall(r"`(agentd(?:-[a-z]+)*|-[a-z]+)`", row)
        stem = names[0].rpartition("-")[0]  # `agentd-parser-fence`, `-xml`
        listed |= {stem + name if name.startswith("-") else name for name in names}
    assert listed >= {
        tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]["name"]
        for folder in [ROOT, *FOLDERS]
    }


HERE = [folder for folder in FOLDERS if not (folder / "constraints.txt").is_file()]
"""Those that are installed where these tests run; an adapter's examples are run by its own tests."""


@pytest.mark.parametrize("folder", HERE, ids=lambda folder: folder.name)
def test_the_python_of_a_readme_imports_all_that_it_uses_and_it_is_there(folder: Path) -> None:
    page = (folder / "README.md").read_text(encoding="utf-8")
    for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        tree = ast.parse(code)
        imports: list[ast.stmt] = [
            node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)
        ]
        known: dict[str, object] = {}
        exec(compile(ast.Module(body=imports, type_ignores=[]), str(folder), "exec"), known)
        nodes = list(ast.walk(tree))
        used = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
        made = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
        made |= {node.arg for node in nodes if isinstance(node, ast.arg)}
        made |= {node.name for node in nodes if isinstance(node, ast.ClassDef | ast.FunctionDef)}
        assert used - made - set(known) - set(dir(builtins)) == set()

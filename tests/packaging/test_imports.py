"""Who imports whom: no circles, and nothing that a distribution does not name in its project file."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECTS = [ROOT / "core", *sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))]
IMPORTED_AS = {
    "PIL": "pillow",
    "acp": "agent-client-protocol",
    "opentelemetry": "opentelemetry-api",
    "attr": "attrs",
    "markdown_it": "markdown-it-py",
    "yaml": "pyyaml",
    "mcp_types": "mcp",
    "httpx2": "mcp",
    "pydantic": "mcp",
    "referencing": "jsonschema",
    "agents": "openai-agents",
    "pydantic_ai": "pydantic-ai-slim",
}
"""Distribution by import name where they differ, or where another one brings it."""

IN_THE_SANDBOX_TOO = {
    "Blob",
    "ToolError",
    "ToolInputError",
    "ToolDeniedError",
    "ToolTimeoutError",
    "UnknownToolError",
}
"""Classes that `agentd_skills.sandbox.bridge` brings to code in a sandbox, where no agentd is to import."""

WITH_THE_COMMAND_LINE = ("agentd-cli", "agentd-sink-console", "click", "rich")


@cache
def modules() -> dict[str, Path]:
    found = {}
    for project in PROJECTS:
        for path in (project / "src").rglob("*.py"):
            name = ".".join(path.relative_to(project / "src").with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


def imports(module: str, path: Path, *, types: bool = False) -> Iterator[tuple[str, bool]]:
    """Yield what a module imports, anywhere (for `types` alone if asked), and whether it would go on without it."""

    def visit(node: ast.AST, spared: bool) -> Iterator[tuple[str, bool]]:
        for child in ast.iter_child_nodes(node):
            if not types and isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                continue
            if isinstance(child, ast.ImportFrom):
                base = child.module or ""
                if child.level:
                    parts = module.split(".")
                    up = child.level - (path.name == "__init__.py")
                    base = ".".join([*parts[: len(parts) - up], *([base] if base else [])])
                for alias in child.names:
                    full = f"{base}.{alias.name}"
                    yield (full if full in modules() else base), spared
            elif isinstance(child, ast.Import):
                for alias in child.names:
                    yield alias.name, spared
            yield from visit(child, spared or isinstance(child, ast.Try))

    yield from visit(ast.parse(path.read_text(encoding="utf-8")), False)


def test_no_two_classes_have_one_name() -> None:
    places: dict[str, set[str]] = {}
    for module, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, set()).add(module)
    twice = {name: where for name, where in places.items() if len(where) > 1}
    assert set(twice) == IN_THE_SANDBOX_TOO, twice
    assert all("agentd_skills.sandbox.bridge" in where and len(where) == 2 for where in twice.values())


def test_no_module_and_no_class_is_too_large() -> None:
    for module, path in modules().items():
        text = path.read_text(encoding="utf-8")
        assert text.count("\n") <= 450, f"{module}: at most 450 lines"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef):
                assert (node.end_lineno or 0) - node.lineno < 400, f"{module}.{node.name}: at most 400 lines"


def test_the_core_stays_small() -> None:
    files = [*(ROOT / "core" / "src").rglob("*.py"), *(ROOT / "core" / "src").rglob("*.pyi")]
    assert sum(path.read_text(encoding="utf-8").count("\n") for path in files) <= 8_000


def test_there_is_no_circle_of_imports_not_even_inside_functions_or_for_types() -> None:
    graph = {
        module: {
            name for name, _ in imports(module, path, types=True) if name in modules() and name != module
        }
        for module, path in modules().items()
    }
    while leaves := [module for module, others in graph.items() if not others & graph.keys()]:
        for module in leaves:
            del graph[module]
    # what is left is in a circle, or leads into one
    assert {module: sorted(others & graph.keys()) for module, others in graph.items()} == {}


@pytest.mark.parametrize("project", PROJECTS, ids=lambda project: project.name)
def test_a_distribution_imports_only_what_its_project_file_names(project: Path) -> None:
    table = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [r for group in table.get("optional-dependencies", {}).values() for r in group]
    named = {
        re.split(r"[\[<>=;~ ]", r)[0].lower().replace("_", "-") for r in [*table["dependencies"], *extras]
    }
    own = next(path.name for path in (project / "src").iterdir() if (path / "py.typed").is_file())
    # a command is only ever run by agentd-cli, which is there then
    commands = {
        v.partition(":")[0] for v in table.get("entry-points", {}).get("agentd.commands", {}).values()
    }
    for module, path in modules().items():
        if module.partition(".")[0] != own:
            continue
        for name, spared in imports(module, path):
            top = name.partition(".")[0]
            if top.startswith("_"):  # within a sandbox, beside the file
                continue
            if top in sys.stdlib_module_names or top in (own, "agentd") or spared:
                continue
            needed = IMPORTED_AS.get(top, top.replace("_", "-"))
            if needed in named or (top == "pydantic" and "openai" in named):  # which brings it, as mcp does
                continue
            if top in named:  # pydantic, by those that name it themselves
                continue
            if module in commands and needed in ("agentd-cli", "agentd-sink-console", "click", "rich"):
                continue
            assert needed in named, (
                f"{path.relative_to(ROOT)} imports {name}, which {table['name']} does not need"
            )

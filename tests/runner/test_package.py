"""What keeps the package small and shippable: the standard library alone, no circle of imports, short modules."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
import tomllib
from pathlib import Path

import agentd_runner
import pytest
from agentd_runner import artefact
from agentd_runner.inside import frames

MODULES = sorted(artefact.INSIDE.glob("*.py"))
NAMES = [path.stem for path in MODULES]


def imports(path: Path) -> set[tuple[str, bool]]:
    """What a module imports, at whatever place: the name, and whether it is one of the package's own."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {(alias.name.partition(".")[0], False) for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((str(node.module).partition(".")[0], False))
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 1, f"{path.name} imports from above the package"
            own = [node.module] if node.module else [alias.name for alias in node.names]
            found |= {(name, True) for name in own}
    return found


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_a_module_imports_the_standard_library_alone(path: Path) -> None:
    others = {name for name, own in imports(path) if not own}
    assert others <= set(sys.stdlib_module_names)


def test_a_running_runner_has_loaded_the_standard_library_alone() -> None:
    command = artefact.folder_command(sys.executable)
    show = "import sys; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    code = command[-1].replace("main()\n", f"{show}\n")
    done = subprocess.run([*command[:-1], code], capture_output=True, text=True, check=True, timeout=20)
    loaded = set(done.stdout.split())
    assert artefact.NAME in loaded
    assert loaded - {artefact.NAME, "__main__"} <= set(sys.stdlib_module_names)


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {path.stem: {name for name, own in imports(path) if own} for path in MODULES}
    order = list(
        graphlib.TopologicalSorter(graph).static_order()
    )  # raises CycleError, which names the circle
    assert set(order) == set(NAMES)


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_own_modules_are_imported_at_the_top_because_they_cannot_be_had_later(path: Path) -> None:
    nested = [
        node
        for top in ast.parse(path.read_text()).body
        for node in ast.walk(top)
        if isinstance(node, ast.ImportFrom) and node.level and node is not top
    ]
    assert nested == []


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_a_module_stays_short_and_says_in_its_first_line_what_it_owns(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) <= 420
    assert lines[0].startswith('"""')
    assert lines[0].rstrip('"').endswith(".")
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef):
            assert (node.end_lineno or 0) - node.lineno < 400, node.name


def test_the_package_itself_imports_nothing() -> None:
    tree = ast.parse(Path(str(agentd_runner.__file__)).read_text())
    assert [type(node) for node in tree.body] == [ast.Expr]


def test_the_release_is_that_of_the_distribution() -> None:
    project = Path(__file__).parents[2] / "plugins/runner/pyproject.toml"
    assert tomllib.loads(project.read_text())["project"]["version"] == frames.RELEASE

"""What the tests of the documentation share: the examples, and the example plugins installed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "docs" / "examples"
PLUGINS = EXAMPLES / "plugins"

_ENTRY_POINT = re.compile(
    r'\[project\.entry-points\."(?P<group>[\w.]+)"\]\n\s*(?P<name>\w+) = "(?P<module>\w+)"'
)


@pytest.fixture(scope="session")
def plugin_modules() -> dict[str, tuple[str, str]]:
    """Group and plugin name by module, as each example's docstring announces them."""
    found = {}
    for path in sorted(PLUGINS.glob("*.py")):
        match = _ENTRY_POINT.search(path.read_text())
        assert match is not None, f"{path.name}: the docstring shows no entry point"
        assert match["module"] == path.stem, f"{path.name}: the entry point names another module"
        found[path.stem] = (match["group"], match["name"])
    return found


@pytest.fixture(scope="session")
def installed_plugins(
    tmp_path_factory: pytest.TempPathFactory, plugin_modules: dict[str, tuple[str, str]]
) -> Path:
    """A folder for `sys.path` that holds the example plugins as an installer would leave them."""
    folder = tmp_path_factory.mktemp("installed")
    info = folder / "agentd_examples-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: agentd-examples\nVersion: 1.0\n")
    lines = [f"[{group}]\n{name} = {module}\n" for module, (group, name) in plugin_modules.items()]
    (info / "entry_points.txt").write_text("\n".join(lines))
    for path in PLUGINS.glob("*.py"):
        (folder / path.name).write_text(path.read_text())
    return folder


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"

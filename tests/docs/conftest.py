"""What the tests of the documentation share: the examples, and the example plugins installed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest
from agentd.registry import Registry

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "docs" / "examples"
PLUGINS = EXAMPLES / "plugins"

_ENTRY_POINT = re.compile(
    r'\[project\.entry-points\."(?P<group>[\w.]+)"\]\n\s*(?P<name>\w+) = "(?P<value>(?P<module>\w+)(:\w+)?)"'
)


@pytest.fixture(scope="session")
def plugin_modules() -> dict[str, tuple[str, str, str]]:
    """Group, plugin name and value of the entry point by module, as each example's docstring announces them."""
    found = {}
    for path in sorted(PLUGINS.glob("*.py")):
        match = _ENTRY_POINT.search(path.read_text())
        assert match is not None, f"{path.name}: the docstring shows no entry point"
        assert match["module"] == path.stem, f"{path.name}: the entry point names another module"
        found[path.stem] = (match["group"], match["name"], match["value"])
    return found


@pytest.fixture(scope="session")
def installed_plugins(
    tmp_path_factory: pytest.TempPathFactory, plugin_modules: dict[str, tuple[str, str, str]]
) -> Path:
    """A folder for `sys.path` that holds the example plugins as an installer would leave them."""
    folder = tmp_path_factory.mktemp("installed")
    info = folder / "agentd_examples-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: agentd-examples\nVersion: 1.0\n")
    lines = [f"[{group}]\n{name} = {value}\n" for group, name, value in plugin_modules.values()]
    (info / "entry_points.txt").write_text("\n".join(lines))
    for path in PLUGINS.glob("*.py"):
        (folder / path.name).write_text(path.read_text())
    return folder


@pytest.fixture
def registry(installed_plugins: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A registry that sees the example plugins beside the installed ones."""
    monkeypatch.syspath_prepend(installed_plugins)
    distributions = [
        *metadata.distributions(),
        *metadata.distributions(path=[str(installed_plugins)]),
    ]
    unique = {d.metadata["Name"]: d for d in distributions}
    return Registry(distributions=unique.values())


@pytest.fixture
def agentd(installed_plugins: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command `agentd` as a process of its own that has the example plugins."""
    home = tmp_path / "home"
    home.mkdir()

    def run(
        *arguments: str, cwd: Path | None = None, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "agentd", *arguments],
            cwd=cwd or tmp_path,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(home),
                "AGENTD_EXECUTOR": "subprocess",  # the same with and without bubblewrap
                "PYTHONPATH": str(installed_plugins),
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return run


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"

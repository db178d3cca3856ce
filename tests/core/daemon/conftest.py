"""What the tests of the daemon share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest
from agentd.daemon.journal import Journal
from agentd.daemon.loading import examine
from agentd.daemon.problems import Problem

# pytest's importlib mode leaves helper modules that lie beside the tests unfindable
sys.path.insert(0, str(Path(__file__).parent))


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker of the long test known."""
    config.addinivalue_line(
        "markers",
        "soak: agents, servers and kills for a minute (AGENTD_TEST_SOAK_S: seconds; the seed is printed)",
    )


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a configuration file (`agents.yaml`) and return its path."""

    def write_file(text: str, name: str = "agents.yaml") -> Path:
        path = tmp_path / name
        path.write_text(dedent(text), encoding="utf-8")
        return path

    return write_file


@pytest.fixture
def errors(write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., list[str]]:
    """Return what is wrong with a configuration, a line each, with short names of files."""
    monkeypatch.chdir(tmp_path)

    def errors_of(text: str, environ: dict[str, str] | None = None) -> list[str]:
        write(text)
        return list(map(str, examine("agents.yaml", environ=environ or {}).problems))

    return errors_of


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """A new journal."""
    with Journal.open(tmp_path / "state" / "journal.db") as made:
        yield made


def messages(problems: tuple[Problem, ...]) -> list[str]:
    """Return the problems without their places."""
    return [problem.message for problem in problems]

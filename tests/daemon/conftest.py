"""What the tests of the daemon share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest
from agentd_daemon.config.loading import examine
from agentd_daemon.config.problems import Problem
from agentd_daemon.journal import Journal
from command_process import agentd as agentd
from fake_openai import Answer, FakeOpenAI
from life import Home

Write = Callable[..., Path]


@pytest.fixture
def anyio_backend() -> str:
    """The daemon is asyncio's."""
    return "asyncio"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder that a server serves, with a page."""
    made = tmp_path / "watched"
    made.mkdir()
    (made / "page").write_text("0")
    return made


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


@pytest.fixture
def model() -> Iterator[FakeOpenAI]:
    """A model that answers `well`, unless the test gives it other answers."""
    with FakeOpenAI(Answer(text="well"), repeat=True) as server:
        yield server


@pytest.fixture
def home(tmp_path: Path, model: FakeOpenAI) -> Iterator[Home]:
    """A place for a daemon; what is started in it ends with the test."""
    place = Home(tmp_path, model)
    yield place
    place.close()


def messages(problems: tuple[Problem, ...]) -> list[str]:
    """Return the problems without their places."""
    return [problem.message for problem in problems]

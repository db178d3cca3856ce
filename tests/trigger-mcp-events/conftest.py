"""What the tests of this trigger share: what a server makes events of, and a place for a daemon."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_openai import Answer, FakeOpenAI
from life import Home


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    """What the server makes events of."""
    made = tmp_path / "lines"
    made.write_text("old\n")
    return made


@pytest.fixture
def model() -> Iterator[FakeOpenAI]:
    """A model that answers `well`, unless the test gives it other answers."""
    with FakeOpenAI(Answer(text="well"), repeat=True) as made:
        yield made


@pytest.fixture
def home(tmp_path: Path, model: FakeOpenAI) -> Iterator[Home]:
    """A place for a daemon; what is started in it ends with the test."""
    place = Home(tmp_path, model)
    yield place
    place.close()

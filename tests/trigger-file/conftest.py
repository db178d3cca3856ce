"""What the tests of this trigger share: a place for a daemon that is a process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_openai import Answer, FakeOpenAI
from life import Home


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

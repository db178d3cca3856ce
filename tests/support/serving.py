"""The fixture `serve`, for the folders whose tests talk to a server with a script."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fake_openai import FakeOpenAI

__all__ = ["serve"]


@pytest.fixture
def serve() -> Iterator[Callable[..., FakeOpenAI]]:
    """Start servers with a script; they end with the test."""
    servers: list[FakeOpenAI] = []

    def start(*answers: Any, **settings: Any) -> FakeOpenAI:
        server = FakeOpenAI(*answers, **settings)
        servers.append(server.__enter__())
        return server

    yield start
    for server in servers:
        server.__exit__()

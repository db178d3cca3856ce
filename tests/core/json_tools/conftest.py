"""What the tests of the JSON tool loop share: servers with a script, patched clients, a tool source."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "conversation"), str(HERE.parent / "patch")]

from fake_openai import FakeOpenAI  # noqa: E402 - found on the path above


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


@pytest.fixture
def patched() -> Iterator[Callable[..., Any]]:
    """Patch the client of a server for the JSON tool loop; cleaned up with the test."""
    from agentd_openai import patch_openai_with_mcp

    clients: list[Any] = []

    def patch(server: FakeOpenAI, *, asynchronous: bool = False, **settings: Any) -> Any:
        client = (server.async_client if asynchronous else server.client)()
        settings.setdefault("tools", [])
        clients.append(patch_openai_with_mcp(client, **settings))
        return client

    yield patch
    for client in clients:
        if hasattr(client, "cleanup_mcp"):
            client.cleanup_mcp()
        if "Async" not in type(client).__name__:
            client.close()

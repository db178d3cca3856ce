"""What the tests of the JSON tool loop share: servers with a script, patched clients, a tool source."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fake_openai import FakeOpenAI


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

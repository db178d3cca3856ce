"""What the tests of the OpenAI facade share: a server with a script, and clients of both kinds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_openai import FakeOpenAI
from serving import serve as serve


@pytest.fixture
def patched(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Patch the client of a server, with a workspace of its own; cleaned up with the test."""
    from agentd_openai import patch_openai_with_ptc

    clients: list[Any] = []

    def patch(server: FakeOpenAI, *, asynchronous: bool = False, options: Any = None, **settings: Any) -> Any:
        client = (server.async_client if asynchronous else server.client)(**(options or {}))
        settings.setdefault("tools", [])
        settings.setdefault("cwd", tmp_path / f"work{len(clients)}")
        clients.append(patch_openai_with_ptc(client, **settings))
        return client

    yield patch
    for client in clients:
        if hasattr(client, "cleanup_ptc"):
            client.cleanup_ptc()
        if "Async" not in type(client).__name__:
            client.close()

"""What the tests of the providers share: the server, a relay for each test, and patched clients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import openai
import pytest
from serving import serve as serve

for missing in (name for name in ("litellm", "llmock") if find_spec(name) is None):
    pytest.skip(f"install {missing} (make setup)", allow_module_level=True)

from agentd_openai import patch_openai_with_ptc  # noqa: E402 - what needs them comes after
from llm_server import LlmServer, Relay  # noqa: E402


@pytest.fixture(scope="session")
def _llmock() -> Iterator[LlmServer]:
    with LlmServer() as server:
        yield server


@pytest.fixture
def server(_llmock: LlmServer) -> LlmServer:
    """The server, with an empty script and journal."""
    _llmock.reset()
    return _llmock


@pytest.fixture
def relay(server: LlmServer) -> Iterator[Relay]:
    """A relay in front of it."""
    with Relay(server) as relay:
        yield relay


@pytest.fixture
def patched(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Patch a client of this address (None: OpenAI's own), with a workspace of its own."""
    made: list[Any] = []

    def make(address: str | None, cls: type[Any] = openai.OpenAI, **settings: Any) -> Any:
        client = cls(base_url=address, api_key="key-of-the-client", **{"max_retries": 0, **settings})
        made.append(patch_openai_with_ptc(client, cwd=tmp_path / f"work{len(made)}", tools=[]))
        return client

    yield make
    for client in made:
        client.cleanup_ptc()
        if isinstance(client, openai.OpenAI):
            client.close()

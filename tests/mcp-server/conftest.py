"""What the tests of `agentd mcp` share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from mcp_serving import served, shop


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # the SDK's transports and uvicorn


@pytest.fixture
def upstream(tmp_path: Path) -> Path:
    """A file of MCP servers, with one."""
    return shop(tmp_path)


@pytest.fixture
def over_http(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a server; its further options come by indirect parametrisation."""
    with served(tmp_path, *getattr(request, "param", [])) as url:
        yield url

"""Fixtures: a workspace whose code calls real MCP servers, and the servers."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from agentd.session.resources import SessionResources
from real_servers import World, listening, npm_server


@pytest.fixture
def working(tmp_path: Path) -> Callable[..., Any]:
    """`async with working(server, ...) as world`: a world with these servers, closed at the end."""

    @asynccontextmanager
    async def enter(*servers: object) -> AsyncIterator[World]:
        bench = SessionResources(cwd=tmp_path / "workspace", tools=[], mcp_servers=servers)
        try:
            await bench.prepare()
            world = World(bench)
            world.watch()
            yield world
        finally:
            await bench.aclose()

    return enter


@pytest.fixture(scope="session")
def everything_urls() -> Iterator[dict[str, str]]:
    """server-everything over both HTTP transports, by name of the transport."""
    with listening("streamableHttp") as port, listening("sse") as sse_port:
        yield {"http": f"http://127.0.0.1:{port}/mcp", "sse": f"http://127.0.0.1:{sse_port}/sse"}


@pytest.fixture(params=["stdio", "http", "sse"])
def everything(request: pytest.FixtureRequest) -> dict[str, Any]:
    """server-everything over each transport, as a user's dict."""
    if request.param == "stdio":
        command, *args = npm_server("server-everything")
        return {"name": "everything", "command": command, "args": args}
    urls = request.getfixturevalue("everything_urls")
    return {"name": "everything", "url": urls[request.param]}


@pytest.fixture
def everything_stdio() -> dict[str, Any]:
    """server-everything over stdio."""
    command, *args = npm_server("server-everything")
    return {"name": "everything", "command": command, "args": args}


@pytest.fixture
def python_server() -> Callable[..., dict[str, Any]]:
    """A function that gives an MCP server from PyPI, by the name of its module."""

    def server(module: str, *args: str) -> dict[str, Any]:
        pytest.importorskip(module) if os.environ.get("CI") != "true" else __import__(module)
        return {
            "name": module.removeprefix("mcp_server_"),
            "command": sys.executable,
            "args": ["-m", module, *args],
        }

    return server

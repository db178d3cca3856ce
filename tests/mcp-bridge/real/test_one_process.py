"""One server process for a client, however many calls there are: the second `create()` of 0.8.6 hung here."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from agentd import patch_openai_with_mcp, patch_openai_with_ptc
from agentd_demo.replay import ReplayServer
from agents.mcp.server import MCPServerStdio
from openai import AsyncOpenAI, OpenAI
from real_servers import npm_server, processes

pytestmark = pytest.mark.slow

BLOCK = "```python:execute\nfrom lib.tools import get_sum\nprint(get_sum(a=2, b=3))\n```\n"


@pytest.fixture
def marker() -> str:
    """A word that stands on the command line of this test's servers and nobody else's."""
    return f"marker-{uuid4().hex}"


@pytest.fixture
def stdio(marker: str) -> dict[str, Any]:
    """Parameters of server-everything, as openai-agents takes them."""
    command, *args = npm_server("server-everything")
    return {"command": command, "args": [*args, "stdio", marker]}


@pytest.fixture
def model() -> Iterator[ReplayServer]:
    """A model that calls `get_sum` in a block, then answers; again and again."""
    with ReplayServer([BLOCK, "It is 5."], repeat=True) as server:
        yield server


@pytest.fixture
def patched(model: ReplayServer, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """A function that makes a patched client, sync or async."""
    made: list[Any] = []

    def make(kind: Any = OpenAI) -> Any:
        client = patch_openai_with_ptc(
            kind(api_key="none", base_url=model.base_url, max_retries=0), cwd=tmp_path / f"work{len(made)}"
        )
        made.append(client)
        return client

    yield make
    for client in made:
        client.cleanup_ptc()
        if isinstance(client, OpenAI):
            client.close()


def ask(client: Any, server: object) -> str:
    reply = client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "What is 2 + 3?"}], mcp_servers=[server]
    )
    return str(reply.choices[0].message.content)


async def ask_async(client: Any, server: object) -> str:
    reply = await client.responses.create(model="m", input="What is 2 + 3?", mcp_servers=[server])
    return str(reply.output_text)


def check(model: ReplayServer, calls: int) -> None:
    """Check that the tool's result reached the model in each of the calls."""
    bodies = [str(request.body) for request in model.requests]
    assert len(bodies) == 2 * calls
    assert all("The sum of 2 and 3 is 5." in body for body in bodies[1::2])


@pytest.mark.parametrize("form", ["openai-agents", "dict", "new dict each time"])
def test_ten_calls_and_one_from_another_thread_use_one_process(
    form: str, patched: Callable[..., Any], model: ReplayServer, stdio: dict[str, Any], marker: str
) -> None:
    client = patched()
    one: Any = (
        MCPServerStdio(params=stdio, name="sums", cache_tools_list=True) if form == "openai-agents" else stdio
    )
    seen: set[int] = set()

    def call() -> None:
        server = {**stdio} if form == "new dict each time" else one
        assert "It is 5." in ask(client, server)
        seen.update(processes(marker))

    for _ in range(10):
        call()
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    check(model, 11)
    assert len(seen) == 1
    client.cleanup_ptc()
    assert processes(marker) == []


def test_an_async_client_uses_one_process_in_one_loop_and_in_the_next(
    patched: Callable[..., Any], model: ReplayServer, stdio: dict[str, Any], marker: str
) -> None:
    server = MCPServerStdio(params=stdio, name="sums")
    client = patched(AsyncOpenAI)
    seen: set[int] = set()

    async def several() -> None:
        for _ in range(2):
            assert "It is 5." in await ask_async(client, server)
            seen.update(processes(marker))
        await client._client.aclose()  # the connections of this loop

    asyncio.run(several())
    client._client = AsyncOpenAI(api_key="none", base_url=model.base_url)._client
    asyncio.run(several())
    check(model, 4)
    assert len(seen) == 1


def test_calls_at_the_same_time_open_the_server_once(
    patched: Callable[..., Any], stdio: dict[str, Any], marker: str
) -> None:
    client = patched()
    server = MCPServerStdio(params=stdio, name="sums")
    client_errors: list[BaseException] = []

    def call() -> None:
        try:
            ask(client, server)
        except BaseException as error:
            client_errors.append(error)

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert client_errors == []
    assert len(processes(marker)) == 1


def test_an_object_that_its_owner_connected_is_used_as_it_is_and_stays_connected(
    patched: Callable[..., Any], model: ReplayServer, stdio: dict[str, Any], marker: str
) -> None:
    client = patched(AsyncOpenAI)

    async def main() -> None:
        async with MCPServerStdio(params=stdio, name="sums") as server:
            mine = processes(marker)
            for _ in range(3):
                assert "It is 5." in await ask_async(client, server)
            assert processes(marker) == mine
            client.cleanup_ptc()
            result = await server.call_tool("get-sum", {"a": 1, "b": 1})
            assert "is 2" in str(result.content)
        await client._client.aclose()

    asyncio.run(main())
    check(model, 3)


def test_a_sync_call_inside_the_loop_that_the_object_belongs_to_does_not_hang(
    patched: Callable[..., Any], model: ReplayServer, stdio: dict[str, Any], marker: str
) -> None:
    client = patched()

    async def main() -> None:
        async with MCPServerStdio(params=stdio, name="sums") as server:
            for _ in range(3):
                assert "It is 5." in ask(client, server)  # blocks the loop that the object needs
            assert len(processes(marker)) == 2, "the object's own, and one that is not on the blocked loop"
            client.cleanup_ptc()

    asyncio.run(main())
    check(model, 3)


def test_both_patches_on_one_client_share_the_process(
    patched: Callable[..., Any], stdio: dict[str, Any], marker: str
) -> None:
    client = patch_openai_with_mcp(patched())
    ask(client, stdio)
    reply = client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "?"}], mcp_servers=[stdio], ptc_enabled=False
    )
    assert reply.choices
    assert len(processes(marker)) == 1

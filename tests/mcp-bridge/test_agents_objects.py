"""Objects that do what the servers of openai-agents do: connected by their owner, or not."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import pytest
from agentd.errors import ToolError, UnknownToolError
from agentd_mcp_bridge.plugin import agentd_create_tool_sources
from helpers import Told, entry, is_alive, numbers
from mcp import Client, StdioServerParameters


class Stdio:
    """A stand-in with the methods and attributes that the real ones have; over the SDK's own client."""

    def __init__(self, journal: Path, tool_filter: Any = None) -> None:
        given = entry(journal=journal)
        self.params = StdioServerParameters(command=given["command"], args=given["args"])
        self.name = "stand-in"
        self.session: Any = None
        self.tool_filter = tool_filter
        self.threads: set[int] = set()
        self._client: Any = None

    async def connect(self) -> None:
        self._client = await Client(self.params, cache=None).__aenter__()
        self.session = self._client.session

    async def cleanup(self) -> None:
        client, self._client, self.session = self._client, None, None
        if client is not None:
            await client.__aexit__(None, None, None)

    async def list_tools(self, run_context: Any = None, agent: Any = None) -> Any:
        self.threads.add(threading.get_ident())
        tools = (await self._client.list_tools()).tools
        tools += (await self._client.list_tools(cursor="more")).tools
        allowed = (self.tool_filter or {}).get("allowed_tool_names")
        return [tool for tool in tools if allowed is None or tool.name in allowed]

    async def call_tool(self, name: str, arguments: Any, meta: Any = None) -> Any:
        self.threads.add(threading.get_ident())
        return await self._client.call_tool(name, arguments)

    async def list_resources(self, cursor: str | None = None) -> Any:
        return await self._client.list_resources(cursor=cursor)

    async def read_resource(self, uri: str) -> Any:
        return await self._client.read_resource(uri)

    async def list_prompts(self) -> Any:
        return await self._client.list_prompts()

    async def get_prompt(self, name: str, arguments: Any = None) -> Any:
        return await self._client.get_prompt(name, arguments)


def source_of(server: object) -> Any:
    """Return the source for an object."""
    [made] = agentd_create_tool_sources(server, {}) or []
    return made


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Where the scripted server notes its starts."""
    return tmp_path / "journal"


@pytest.mark.anyio
async def test_an_object_that_is_not_connected_is_connected_and_cleaned_up(journal: Path) -> None:
    server = Stdio(journal)
    made = source_of(server)
    assert made.name == "stand-in"
    assert "echo" in [spec.name for spec in await made.list_tools()]
    assert await made.call("echo", {"text": "hi"}) == "hi"
    assert server.session is not None
    assert await made.get_prompt("greet", {"who": "Ada"}) == [{"role": "user", "content": "Hello Ada"}]
    assert await made.read_resource("note://1") == b"hi"
    assert await made.list_prompts() == [{"name": "greet"}]
    await made.aclose()
    assert server.session is None
    [pid] = numbers(journal, "start")
    assert not is_alive(pid)


@pytest.mark.anyio
async def test_its_own_filter_holds_for_listing_and_calling(journal: Path) -> None:
    made = source_of(Stdio(journal, {"allowed_tool_names": ["echo"]}))
    assert [spec.name for spec in await made.list_tools()] == ["echo"]
    with pytest.raises(UnknownToolError):
        await made.call("die", {})
    await made.aclose()


@pytest.mark.anyio
async def test_after_a_crash_it_is_connected_again(journal: Path) -> None:
    made = source_of(Stdio(journal))
    await made.list_tools()
    with pytest.raises(ToolError, match="'stand-in' died during this call"):
        await made.call("die", {})
    assert await made.call("echo", {"text": "back"}) == "back"
    assert len(numbers(journal, "start")) == 2
    await made.aclose()


def test_an_object_that_is_connected_is_used_on_its_own_loop_and_stays_connected(journal: Path) -> None:
    server = Stdio(journal)

    async def main() -> None:
        await server.connect()
        made = source_of(server)
        await made.list_tools()
        assert await made.call("echo", {"text": "hi"}) == "hi"
        with pytest.raises(ToolError, match="the disk is full"):
            await made.call("fail", {})
        await made.aclose()
        assert server.session is not None
        assert server.threads == {threading.get_ident()}
        await server.cleanup()

    asyncio.run(main())
    assert len(numbers(journal, "start")) == 1


@pytest.fixture
def blocked(journal: Path) -> Iterator[Stdio]:
    """An object that was connected on a loop that then waits for something else."""
    server = Stdio(journal)
    ready, release = threading.Event(), threading.Event()

    async def main() -> None:
        await server.connect()
        ready.set()
        release.wait()  # as a synchronous call inside an async function does
        await server.cleanup()

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    assert ready.wait(20)
    yield server
    release.set()
    thread.join()


def test_an_object_whose_loop_is_blocked_is_replaced_from_its_parameters(
    blocked: Stdio, journal: Path
) -> None:
    blocked.tool_filter = {"allowed_tool_names": ["echo"], "blocked_tool_names": []}
    made = source_of(blocked)

    async def use() -> object:
        assert [spec.name for spec in await made.list_tools()] == ["echo"]
        with pytest.raises(UnknownToolError):
            await made.call("die", {})
        return await made.call("echo", {"text": "second"})

    with anyio.from_thread.start_blocking_portal() as portal:
        assert portal.call(use) == "second"
    assert len(numbers(journal, "start")) == 2
    made.close()


def test_an_object_without_parameters_whose_loop_is_blocked_is_refused_in_words(blocked: Stdio) -> None:
    del blocked.params
    made = source_of(blocked)
    with pytest.raises(ToolError, match="pass it without connecting it"):
        anyio.run(made.list_tools)
    with pytest.raises(ToolError, match="pass it without connecting it"):
        anyio.run(made.list_tools)
    made.close()


def test_a_server_reached_from_an_object_s_parameters_has_subscriptions(
    blocked: Stdio, journal: Path
) -> None:
    made, told = source_of(blocked), Told()
    made.subscribe("note://1", told)
    assert told.until("active") == ["active"]
    anyio.run(made.call, "touch", {"uri": "note://1"})
    told.until("changed")
    assert len(numbers(journal, "start")) == 2
    made.close()


def test_an_object_itself_and_one_that_cannot_be_reached_have_none(blocked: Stdio, journal: Path) -> None:
    del blocked.params
    for server in (blocked, Stdio(journal)):
        made, told, late = source_of(server), Told(), Told()
        made.subscribe("note://1", told)
        assert told.until("unsupported") == ["unsupported"]
        made.subscribe("note://2", late)
        assert late.until("unsupported") == ["unsupported"]
        made.close()

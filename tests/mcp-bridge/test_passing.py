"""Requests that are passed on to a server as they are, and in which era it is asked."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import mcp_types as types
import pytest
from agentd.errors import ToolTimeoutError
from agentd_mcp_bridge.config import ServerConfig, StdioTarget
from agentd_mcp_bridge.errors import McpServerError
from agentd_mcp_bridge.passing import PassedRequest
from agentd_mcp_bridge.source import McpSource
from mcp.shared.exceptions import MCPError

pytestmark = pytest.mark.anyio

SERVER = """
import os, sys
import anyio
from mcp.server import MCPServer
from mcp.shared.exceptions import MCPError
from mcp_types import EmptyResult, SetLevelRequestParams
server = MCPServer("passed")

@server.prompt()
def once() -> str:
    if not os.path.exists(sys.argv[1]):
        open(sys.argv[1], "w").close()
        os._exit(1)
    return "here"

@server.prompt()
async def never() -> str:
    await anyio.sleep_forever()

@server.tool()
def closed() -> str:
    raise MCPError(-32000, "Connection closed")

@server.tool()
def sold() -> str:
    raise MCPError(-32000, "sold out")

@server.tool()
def ended() -> str:
    raise MCPError(-32600, "Session terminated")

@server.tool()
def pid() -> int:
    return os.getpid()

@server.tool()
def odd() -> str:
    raise MCPError(-32099, "a word of my own", {"because": "so"})

async def refuse(context, call_next):
    if context.method == "logging/setLevel":
        with open(sys.argv[1] + ".levels", "a") as levels:
            print(context.params["level"], file=levels)
    if context.method == sys.argv[2]:
        raise MCPError(-32601, "not with me")
    return await call_next(context)

async def level(context, params):
    return EmptyResult()

server._lowlevel_server.add_request_handler("logging/setLevel", SetLevelRequestParams, level)
server._lowlevel_server.middleware.append(refuse)
server.run()
"""


class Served:
    """A client that can be asked nothing."""

    able = types.ClientCapabilities()

    def __init__(self, *, speaks_handshake: bool) -> None:
        self.speaks_handshake = speaks_handshake

    async def answer(self, server: str, request: Any) -> Any:
        raise AssertionError("nothing is asked")

    async def notified(self, server: str, message: Any) -> None:
        """Nothing is done."""


def source(folder: Path, refused: str = "nothing", **more: Any) -> McpSource:
    (folder / "server.py").write_text(SERVER)
    args = (str(folder / "server.py"), str(folder / "died"), refused)
    return McpSource(
        ServerConfig(name="passed", target=StdioTarget(command=sys.executable, args=args), **more)
    )


async def revision(asked: McpSource) -> str:
    async def send(client: Any) -> str:
        return str(client.protocol_version)

    return str(await asked.pass_on(PassedRequest("the revision", send)))


@pytest.mark.parametrize(
    ("handshake", "refused", "spoken"),
    [
        (False, "nothing", "2026-07-28"),
        (True, "nothing", "2025-11-25"),
        (True, "initialize", "2026-07-28"),
        (False, "server/discover", "2025-11-25"),
    ],
)
async def test_a_server_is_spoken_to_in_the_era_of_the_client_if_it_knows_that(
    tmp_path: Path, handshake: bool, refused: str, spoken: str
) -> None:
    asked = source(tmp_path, refused)
    asked.serve(Served(speaks_handshake=handshake))
    try:
        assert await revision(asked) == spoken
    finally:
        await asked.aclose()


async def test_a_request_that_may_be_repeated_is_when_the_server_dies_over_it(tmp_path: Path) -> None:
    asked = source(tmp_path)

    async def send(client: Any) -> Any:
        return await client.get_prompt("once")

    try:
        passed = PassedRequest("the prompt", send)
        with pytest.raises(McpServerError, match="died during this call, the prompt"):
            await asked.pass_on(passed, repeatable=False)
        (tmp_path / "died").unlink()
        assert (await asked.pass_on(passed)).messages[0].content.text == "here"
    finally:
        await asked.aclose()


async def test_a_refusal_of_the_server_is_its_own_error(tmp_path: Path) -> None:
    asked = source(tmp_path)

    async def send(client: Any) -> Any:
        return await client.call_tool("odd", {})

    passed = PassedRequest("odd()", send)
    try:
        with pytest.raises(MCPError) as refused:
            await asked.pass_on(passed)
        error = refused.value.error
        assert (error.code, error.message, error.data) == (-32099, "a word of my own", {"because": "so"})
        assert passed.error is refused.value
    finally:
        await asked.aclose()


@pytest.mark.parametrize(
    "anyio_backend", ["asyncio"]
)  # the server is spoken to in the loop of the connections
@pytest.mark.parametrize("handshake", [False, True], ids=["newest", "handshake"])
async def test_a_server_that_refuses_with_words_of_the_sdk_has_not_died(
    tmp_path: Path, handshake: bool
) -> None:
    asked = source(tmp_path)
    asked.serve(Served(speaks_handshake=handshake))

    async def call(name: str) -> Any:
        async def send(client: Any) -> Any:
            return await client.call_tool(name, {})

        return await asked.pass_on(PassedRequest(f"{name}()", send))

    try:
        process = (await call("pid")).structured_content
        refusals = {"closed": (-32000, "Connection closed"), "sold": (-32000, "sold out")}
        for name, said in {**refusals, "ended": (-32600, "Session terminated")}.items():
            with pytest.raises(MCPError) as refused:
                await call(name)
            assert (refused.value.error.code, refused.value.error.message) == said
        assert (await call("pid")).structured_content == process
    finally:
        await asked.aclose()


@pytest.mark.parametrize(
    "anyio_backend", ["asyncio"]
)  # the server is spoken to in the loop of the connections
async def test_a_request_that_is_never_answered_ends_with_the_servers_time_out(tmp_path: Path) -> None:
    asked = source(tmp_path, timeout_s=0.2)

    async def send(client: Any) -> Any:
        return await client.get_prompt("never")

    try:
        await asked.list_tools()  # it has started
        with pytest.raises(ToolTimeoutError, match=r"the prompt of 'passed' did not answer within 0\.2 s"):
            await asked.pass_on(PassedRequest("the prompt", send))
    finally:
        await asked.aclose()


@pytest.mark.parametrize(
    "anyio_backend", ["asyncio"]
)  # the server is spoken to in the loop of the connections
async def test_a_server_that_is_started_again_is_told_the_log_level_again(tmp_path: Path) -> None:
    asked = source(tmp_path)
    asked.serve(Served(speaks_handshake=True))
    asked.keep_log_level("error")

    async def send(client: Any) -> Any:
        return await client.get_prompt("once")

    try:
        await asked.pass_on(PassedRequest("the prompt", send))  # over which it dies once
        assert (tmp_path / "died.levels").read_text().split() == ["error", "error"]
    finally:
        await asked.aclose()

"""The server, driven by the MCP clients of the OpenAI Agents SDK: code mode for its agents."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from agents.mcp import MCPServerStdio, MCPServerStreamableHttp
from mcp_serving import RED, command, served, text

pytestmark = [pytest.mark.anyio, pytest.mark.slow]  # each test starts a server or two

TRANSPORTS = pytest.mark.parametrize("transport", ["stdio", "http"])


@asynccontextmanager
async def opened(folder: Path, transport: str, *more: str) -> AsyncIterator[Any]:
    """A server object of the SDK, connected."""
    settings: dict[str, Any] = {"client_session_timeout_seconds": 60, "use_structured_content": True}
    with ExitStack() as stack:
        if transport == "http":
            url = stack.enter_context(served(folder, *more))
            server: Any = MCPServerStreamableHttp(params={"url": url, "timeout": 60}, **settings)
        else:
            program, *arguments = command(folder, *more)
            server = MCPServerStdio(params={"command": program, "args": arguments}, **settings)
        await server.connect()
        try:
            yield server
        finally:
            await server.cleanup()


@TRANSPORTS
async def test_every_tool_works(tmp_path: Path, upstream: Path, transport: str) -> None:
    async with opened(tmp_path, transport, "--mcp-config", str(upstream)) as server:
        tools = {tool.name for tool in await server.list_tools()}
        assert tools == {
            "run_bash",
            "run_python",
            "create_file",
            "search_tools",
            "list_files",
            "checkpoint",
            "rewind",
        }
        await server.call_tool("create_file", {"path": "a.txt", "content": "one"})
        assert "a.txt  3 bytes" in text(await server.call_tool("list_files", {}))
        await server.call_tool("checkpoint", {"label": "one"})
        await server.call_tool("run_bash", {"code": "x=2; echo two > a.txt"})
        await server.call_tool("rewind", {"checkpoint": "one"})
        ran = await server.call_tool("run_bash", {"code": "cat a.txt; echo [$x]"})
        assert ran.structured_content["output"] == "one[]\n"
        assert "price(name: string)" in text(await server.call_tool("search_tools", {"query": "costs"}))
        code = "from lib.tools import price\nprint(price(name='tea'))"
        assert text(await server.call_tool("run_python", {"code": code})) == "3"
        failed = await server.call_tool("run_bash", {"code": "exit 3"})
        assert (failed.is_error, failed.structured_content["exit_code"]) == (True, 3)
        shown = await server.call_tool("run_python", {"code": RED})
        assert base64.b64decode(shown.content[1].data).startswith(b"\x89PNG")


@TRANSPORTS
async def test_a_call_that_is_cancelled_ends_its_code(tmp_path: Path, transport: str) -> None:
    async with opened(tmp_path, transport, "--reconnect", "0.2") as server:
        call = asyncio.create_task(
            server.call_tool("run_bash", {"code": "echo $BASHPID > new; mv new pid; sleep 600"})
        )
        while not (found := list(tmp_path.glob("w/**/pid"))):
            await asyncio.sleep(0.05)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        pid = int(found[0].read_text())
        assert text(await server.call_tool("run_bash", {"code": "echo here"})) == "here"
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@TRANSPORTS
async def test_a_question_is_denied_with_its_reason_for_the_sdk_has_no_elicitation(
    tmp_path: Path, transport: str
) -> None:
    rules = tmp_path / "policy.yaml"
    rules.write_text("rules:\n  - {verdict: ask, kind: create}\n")
    async with opened(tmp_path, transport, "--policy", str(rules)) as server:
        denied = await server.call_tool("create_file", {"path": "a", "content": "x"})
        assert denied.is_error
        assert "it has no elicitation" in text(denied)


@TRANSPORTS
async def test_output_is_progress_on_the_sdks_own_session(tmp_path: Path, transport: str) -> None:
    heard: list[str | None] = []

    async def progress(done: float, total: float | None, message: str | None) -> None:
        heard.append(message)
        next(tmp_path.glob("w/**/here")).with_name("go").touch()

    async with opened(tmp_path, transport) as server:
        code = "touch here; echo begun; until [ -e go ]; do sleep 0.05; done; echo over"
        result = await server.session.call_tool("run_bash", {"code": code}, progress_callback=progress)
        assert heard[0] == "begun\n"
        assert text(result) == "begun\nover"

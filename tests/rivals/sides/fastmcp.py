"""fastmcp's code mode: a server with the transform `CodeMode`, called by fastmcp's client in the same process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rivals.side import Box, NotThere, Said, Side

__all__ = ["SIDES"]

CALLS_AT_ONCE = """import asyncio

async def work():
    for i in range({each}):
        await call_tool('echo', {{'x': i}})

await asyncio.gather(*(work() for _ in range(8)))
"""
NEVER = 1_000_000_000


class FastmcpBox(Box):
    """A client of a server. Each block has a sandbox of its own."""

    def __init__(self, client: Any, stack: contextlib.AsyncExitStack, sandbox: Any) -> None:
        self._client = client
        self._stack = stack
        self._sandbox = sandbox

    async def python(self, code: str, *, kept: bool = False, timeout_s: float | None = None) -> Said:
        """The tool `execute`."""
        if kept:
            raise NotThere("each block starts anew")
        before = dict(self._sandbox.limits)
        if timeout_s is not None:
            self._sandbox.limits["max_feed_duration_secs"] = timeout_s
        try:
            result = await self._client.call_tool("execute", {"code": code}, raise_on_error=False)
        finally:
            self._sandbox.limits = before
        text = "".join(getattr(part, "text", "") for part in result.content)
        if timeout_s is not None and "TimeoutError" in text:
            raise TimeoutError(text)
        return Said(text, not result.is_error)

    async def close(self) -> None:
        """End client and server."""
        await self._stack.aclose()


class Fastmcp(Side):
    """Monty in an MCP server."""

    name = "fastmcp"
    title = "fastmcp, code mode"
    isolation = "interpreter in a process of its own for each block (Monty)"
    language = "a part of Python (Monty)"
    packages = ("fastmcp", "pydantic-monty")
    environment = "fastmcp"
    requirements = ("fastmcp[code-mode]",)
    modules = "fastmcp"
    is_cpython = False
    call = "await call_tool('echo', {{'x': {x}}})"
    empty = "return 1"
    sleeping = "await call_tool('nap', {})"
    endless = "while True:\n    pass\n"
    mcp_call = "await call_tool('get_current_time', {'timezone': 'UTC'})"

    async def prepare(self) -> None:
        """Import what a server uses."""
        import fastmcp.experimental.transforms.code_mode
        import pydantic_monty

        del fastmcp, pydantic_monty

    async def open(self, folder: Path) -> FastmcpBox:
        """A server with the tools, and a client of it."""
        from fastmcp import FastMCP

        from rivals.ten_tools import echo, same

        server = FastMCP("tools")
        server.tool(echo)
        server.tool(same)

        @server.tool
        async def nap() -> None:
            """Sleep for 0.1 s."""
            await asyncio.sleep(0.1)

        return await self._opened(server)

    async def _opened(self, server: Any) -> FastmcpBox:
        from fastmcp import Client
        from fastmcp.experimental.transforms.code_mode import CodeMode, MontySandboxProvider

        sandbox = MontySandboxProvider(limits={"max_suspensions": NEVER})
        server.add_transform(CodeMode(sandbox_provider=sandbox, **self._more()))
        stack = contextlib.AsyncExitStack()
        client = await stack.enter_async_context(Client(server))
        return FastmcpBox(client, stack, sandbox)

    def _more(self) -> dict[str, Any]:
        import inspect

        from fastmcp.experimental.transforms.code_mode import CodeMode

        return {"max_tool_calls": NEVER} if "max_tool_calls" in inspect.signature(CodeMode).parameters else {}

    async def open_with_mcp(self, folder: Path, argv: Sequence[str]) -> FastmcpBox:
        """A proxy of the MCP server, with code mode."""
        from fastmcp.client.transports import StdioTransport
        from fastmcp.server import create_proxy

        return await self._opened(create_proxy(StdioTransport(command=argv[0], args=list(argv[1:]))))

    def calls_at_once(self, each: int) -> str:
        """Gathered: it has no threads."""
        return CALLS_AT_ONCE.format(each=each)

    def big_calls(self, count: int) -> str:
        """Its calls take a mapping, and give one."""
        return (
            f"text = 'x' * 1000000\nfor i in range({count}):\n"
            "    got = await call_tool('same', {'x': text})\n    assert len(got['result']) == 1000000\n"
        )

    def printing(self, megabytes: int) -> str:
        """What it prints goes to the server's standard output, so it returns the text."""
        return f"return ('x' * 99 + '\\n') * {megabytes * 10_000}"

    def shown(self, code: str) -> str:
        """A block is a function's body."""
        return f"{code}return str(result)\n"


SIDES = (Fastmcp(),)

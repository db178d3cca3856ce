"""The stdio transport: an MCP server as a child process, one JSON-RPC message a line.

The SDK has such a transport as well. This one bounds the size of a message, keeps the end of the server's
standard error for error messages, ends everything that the server has started, and passes messages on without
tasks in between. It needs asyncio: connections live in `agentd_mcp_bridge.loop`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final

import anyio

from agentd_mcp_bridge.child import Child
from agentd_mcp_bridge.config import StdioTarget
from agentd_mcp_bridge.pipes import Flow, Reader, Tail, Writer

__all__ = ["StdioTransport"]

_OF_OLDER_SDK: Final = re.compile(
    r"No module named 'mcp\.server\.fastmcp'|cannot import name 'FastMCP' from 'mcp\.server'"
    r"|cannot import name 'McpError' from 'mcp(?:\.shared\.exceptions)?'"
    r"|'Server' object has no attribute '(?:list|call|get|read|set|subscribe|unsubscribe|complete|progress)_"
)
"""What Python says of a server that was written for the package `mcp` before 2.0, and did not ask for that."""


class StdioTransport:
    """Starts the server when entered and ends it when left; yields a read and a write stream.

    Implements the SDK's `Transport` protocol. After the end, `fate` says how the server ended, if it did so by
    itself, and `details()` what its output tells.
    """

    def __init__(self, target: StdioTarget, *, name: str, max_message_bytes: int) -> None:
        self._target = target
        self._reader = Reader(name, target.encoding, max_message_bytes)
        self._stderr = Tail()
        self._child: Child | None = None
        self._writer: Writer | None = None
        self.fate = ""

    @property
    def is_utf8(self) -> bool:
        """Whether messages are sent as they are."""
        return self._target.encoding == "utf-8"

    @property
    def lines(self) -> Writer | None:
        """What writes to the server, once it is open."""
        return self._writer

    @property
    def envelope(self) -> dict[str, Any]:
        """What each request's `_meta` must have; empty before the first request, and on older protocols."""
        return self._writer.envelope if self._writer is not None else {}

    @property
    def died_of_discovery(self) -> bool:
        """Whether the server has ended, by what it says, over the question with which 2026-07-28 begins."""
        return bool(self.fate) and "server/discover" in self._stderr.text()

    def write(self, line: bytes) -> bool:
        """Send a line beside the SDK's messages; False if the server does not read just now, or is gone."""
        return self._writer is not None and self._writer.write(line)

    def write_now(self, line: bytes) -> bool:
        """The same from any thread, for a short line and a pipe that is free."""
        return self._writer is not None and self._writer.write_now(line)

    def intercept(self, take: Callable[[bytes | bytearray], bool]) -> None:
        """Show every line of the server to `take` first; the SDK does not see those for which it returns True."""
        self._reader.take = take

    async def __aenter__(self) -> tuple[Reader, Writer]:
        self._child = child = Child(self._target)
        loop = asyncio.get_running_loop()
        try:
            transport, _ = await loop.connect_read_pipe(lambda: self._reader.protocol, child.stdout)
            self._reader.transport = transport
            await loop.connect_read_pipe(lambda: self._stderr, child.stderr)
            flow = Flow()
            pipe, _ = await loop.connect_write_pipe(lambda: flow, child.stdin)
            self._writer = Writer(pipe, flow, self._target.encoding)
        except BaseException:
            child.kill()
            raise
        return self._reader, self._writer

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            if self._child is None:
                return
            if self._reader.failure:
                self.fate = self._reader.failure
            elif self._reader.at_end:  # before its input is closed, which would end it, too
                self.fate = await self._child.fate(within_s=1.0)
            if self._writer is not None:
                self._writer.close_pipe()
            self._reader.close()
            await self._child.end(urgent=bool(self._reader.failure))
            await self._stderr.wait(0.2)
            self._stderr.close()

    def details(self) -> list[str]:
        """Return what else the server's output tells about its end."""
        said = []
        if self._reader.garbage:
            said.append(f"its standard output had what is no MCP message: {self._reader.garbage!r}")
        if text := self._stderr.text():
            if _OF_OLDER_SDK.search(text):
                said.append("it was written for the package mcp before 2.0 (with uvx: --with 'mcp<2')")
            said.append(f"its standard error was:\n{text}")
        return said

"""`agentd mcp`, started as a client starts it, and what tests say to it."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from mcp import Client, StdioServerParameters
from mcp_types import CallToolResult

__all__ = ["HELLO", "RED", "Wire", "client", "command", "events", "served", "shop", "text"]

UPSTREAM: Final = """
from mcp.server import MCPServer
server = MCPServer("shop")
@server.tool()
def price(name: str) -> int:
    "What an article costs."
    return len(name)
@server.tool()
def order(name: str) -> str:
    "Order an article."
    return "ordered " + name
@server.tool()
def close() -> None:
    "Close the shop."
    import os
    os._exit(3)
server.run()
"""
HELLO: Final = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "a test", "version": "1"},
}

RED: Final = """
import agentd, struct, zlib

def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

head = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 8, 2, 0, 0, 0))
rows = chunk(b"IDAT", zlib.compress(b"\\0" + b"\\xff\\0\\0" * 2))
agentd.show(b"\\x89PNG\\r\\n\\x1a\\n" + head + rows + chunk(b"IEND", b""), name="red")
print("shown")
"""


def shop(folder: Path) -> Path:
    """Write a file of MCP servers, with one that sells."""
    (folder / "shop.py").write_text(UPSTREAM)
    servers = {"mcpServers": {"shop": {"command": sys.executable, "args": [str(folder / "shop.py")]}}}
    (folder / "servers.json").write_text(json.dumps(servers))
    return folder / "servers.json"


def command(folder: Path, *more: str) -> list[str]:
    """Return the command line of a server whose workspace is `w` in this folder."""
    return [sys.executable, "-m", "agentd", "mcp", "--cwd", str(folder / "w"), "-e", "subprocess", *more]


@asynccontextmanager
async def client(folder: Path, *more: str, **options: Any) -> AsyncIterator[Client]:
    """A client of the SDK, over standard input and output."""
    program, *arguments = command(folder, *more)
    async with Client(StdioServerParameters(command=program, args=arguments), **options) as opened:
        yield opened


@contextmanager
def served(folder: Path, *more: str) -> Iterator[str]:
    """A server over HTTP; yields its URL."""
    process = subprocess.Popen(
        command(folder, "--http", "0", *more),
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "THE_TOKEN": "s3cret"},
    )
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        found = re.search(r"http://\S+", line)
        assert found is not None, line + process.stderr.read()
        yield found[0]
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143
        assert "Traceback" not in process.stderr.read()
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def text(result: CallToolResult) -> str:
    """Return the text of a result that has nothing else."""
    (content,) = result.content
    assert content.type == "text"
    return content.text


class Wire:
    """Requests of a revision with sessions, sent as bytes over HTTP: it can leave in the middle of one."""

    def __init__(self, url: str, session: str = "") -> None:
        self._url = url
        self.session = session
        self._open: list[tuple[http.client.HTTPConnection, http.client.HTTPResponse | None]] = []

    def request(
        self, method: str, body: str | bytes | None = None, **headers: str
    ) -> http.client.HTTPResponse:
        """Send a request on a connection of its own and return the answer, of which the head is read."""
        place = urlsplit(self._url)
        connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=60)
        self._open.append((connection, None))
        given = {
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": "2025-11-25",
            **({"Mcp-Session-Id": self.session} if self.session else {}),
            **headers,
        }
        connection.request(method, place.path, body, given)
        answer = connection.getresponse()
        self._open.append((connection, answer))
        return answer

    def post(
        self,
        method: str,
        params: Mapping[str, Any] | None = None,
        *,
        number: int | None = None,
        **headers: str,
    ) -> http.client.HTTPResponse:
        """Send a message."""
        message: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
        message |= {} if number is None else {"id": number}
        message |= {} if params is None else {"params": params}
        return self.request("POST", json.dumps(message), **headers)

    def begin(self) -> None:
        """Shake hands; the session is the wire's from now on. Refused, it is a ConnectionRefusedError."""
        answer = self.post("initialize", HELLO, number=0)
        told = answer.read()
        if answer.status != 200:
            raise ConnectionRefusedError(f"{answer.status}: {told.decode()}")
        self.session = answer.headers["mcp-session-id"]
        self.post("notifications/initialized").read()

    def call(self, number: int, tool: str, **arguments: Any) -> http.client.HTTPResponse:
        """Begin a call that reports progress."""
        params = {"name": tool, "arguments": arguments, "_meta": {"progressToken": number}}
        return self.post("tools/call", params, number=number)

    def run(self, number: int, tool: str, **arguments: Any) -> dict[str, Any]:
        """Make a call and return what came of it."""
        *_, last = events(self.call(number, tool, **arguments))
        return json.loads(last["data"])  # type: ignore[no-any-return]

    def hang_up(self) -> None:
        """Close all connections, whatever is under way."""
        for connection, answer in self._open:
            if connection.sock is not None:
                with suppress(OSError):  # the other end may have been quicker
                    connection.sock.shutdown(socket.SHUT_RDWR)
            if answer is not None:
                answer.close()
            connection.close()
        self._open.clear()


def events(answer: http.client.HTTPResponse) -> Iterator[dict[str, str]]:
    """Yield the events of an answer as they come."""
    event: dict[str, str] = {}
    for line in answer:
        name, _, value = line.decode().rstrip("\r\n").partition(":")
        if name:
            event[name] = value.strip()
        elif event:
            yield event
            event = {}

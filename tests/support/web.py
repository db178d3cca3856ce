"""MCP servers over HTTP on loopback, in a thread of the test's process."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import uvicorn
from mcp.server.mcpserver import Context, MCPServer


def make_server() -> MCPServer:
    """Return a server with a few tools."""
    server = MCPServer("web")

    @server.tool()
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    @server.tool()
    def text(kib: int) -> str:
        """Return a text of this size."""
        return "x" * (kib * 1024)

    @server.tool()
    async def wait(seconds: float) -> str:
        """Wait."""
        await anyio.sleep(seconds)
        return "waited"

    @server.tool()
    async def header(name: str, ctx: Context) -> str:  # type: ignore[type-arg]
        """Return a header of the request."""
        request: Any = ctx.request_context.request
        return request.headers.get(name) or "none"

    @server.tool(name="größe")
    def size(text: str) -> int:
        """Count the characters of a text."""
        return len(text)

    @server.tool()
    async def progress(ctx: Context) -> str:  # type: ignore[type-arg]
        """Report progress."""
        await ctx.report_progress(1, 2, "half")
        return "done"

    return server


@contextmanager
def serve(make_app: Callable[[], Any], port: int = 0) -> Iterator[int]:
    """Serve an ASGI application, which is made in its own event loop; yields the port."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(128)  # whoever connects before the server runs waits
    config = uvicorn.Config(
        make_app, factory=True, log_level="critical", timeout_graceful_shutdown=1, ws="none", lifespan="on"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()


async def raw(scope: Any, receive: Any, send: Any, *, status: int, headers: Any, body: Any) -> None:
    """Answer one HTTP request; `body` is an iterable of pieces."""
    await send({"type": "http.response.start", "status": status, "headers": headers})
    for piece in body:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def with_lifespan(app: Any) -> Any:
    """Add what servers expect of an application beside requests."""

    async def whole(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await app(scope, receive, send)
            return
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return

    return whole

"""Subscriptions over streamable HTTP up to 2025-11-25, where what the server says by itself has its own stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from agentd_mcp_bridge.plugin import agentd_create_tool_sources
from agentd_mcp_bridge.source import McpSource
from helpers import Told
from web import serve

NOTE = "note://1"


class Legacy:
    """An ASGI application: a server of 2025-11-25 whose streams the test ends, or that has none."""

    def __init__(self, *, session: bool = True, stream_status: int = 200) -> None:
        self.session = session
        self.stream_status = stream_status
        self.methods: list[str] = []
        self.streams: list[asyncio.Queue[str | None]] = []
        self.loop: asyncio.AbstractEventLoop | None = None

    def __call__(self) -> Any:
        self.loop = asyncio.get_running_loop()

        async def app(
            scope: Any, receive: Any, send: Any
        ) -> None:  # uvicorn takes a method for something else
            await self.serve(scope, receive, send)

        return app

    def say(self, text: str | None) -> None:
        """Send an event on the newest stream; None ends it. From any thread."""
        assert self.loop is not None
        self.loop.call_soon_threadsafe(self.streams[-1].put_nowait, text)

    def change(self, uri: str) -> None:
        """Say that a resource has changed."""
        note = {"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": uri}}
        self.say(json.dumps(note))

    async def serve(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["method"] == "GET":
            await self.stream(receive, send)
        elif scope["method"] == "POST":
            await self.answer(receive, send)
        else:
            await _respond(send, 200, b"")

    async def stream(self, receive: Any, send: Any) -> None:
        self.methods.append("GET")
        if self.stream_status != 200:
            await _respond(send, self.stream_status, b"")
            return
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b": hello\n\n", "more_body": True})
        events: asyncio.Queue[str | None] = asyncio.Queue()
        self.streams.append(events)
        gone = asyncio.create_task(_gone(receive))
        while not gone.done():
            event = asyncio.create_task(events.get())
            await asyncio.wait([event, gone], return_when=asyncio.FIRST_COMPLETED)
            if not event.done():
                event.cancel()
            elif (text := event.result()) is None:
                break
            else:
                await send(
                    {"type": "http.response.body", "body": f"data: {text}\n\n".encode(), "more_body": True}
                )
        gone.cancel()
        await send({"type": "http.response.body", "body": b""})

    async def answer(self, receive: Any, send: Any) -> None:
        body = b""
        while True:
            part = await receive()
            body += part.get("body", b"")
            if not part.get("more_body"):
                break
        message = json.loads(body)
        self.methods.append(message["method"])
        if "id" not in message:
            await _respond(send, 202, b"")
            return
        reply: dict[str, Any] = {"jsonrpc": "2.0", "id": message["id"]}
        if message["method"] == "initialize":
            reply["result"] = {
                "protocolVersion": "2025-11-25",
                "capabilities": {"tools": {}, "resources": {"subscribe": True}},
                "serverInfo": {"name": "legacy", "version": "1"},
            }
        elif message["method"] in ("resources/subscribe", "resources/unsubscribe"):
            reply["result"] = {}
        else:
            reply["error"] = {"code": -32601, "message": "unknown"}
        extra = [(b"mcp-session-id", b"s1")] if self.session else []
        await _respond(send, 200, json.dumps(reply).encode(), extra)


async def _lifespan(receive: Any, send: Any) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def _gone(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _respond(send: Any, status: int, body: bytes, extra: Any = ()) -> None:
    headers = [(b"content-type", b"application/json"), *extra]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
def subscribed() -> Callable[..., Any]:
    """`with subscribed(server) as told`: a subscription at that server."""

    @contextmanager
    def enter(server: Legacy) -> Iterator[Told]:
        with serve(server) as port:
            [made] = agentd_create_tool_sources(f"http://127.0.0.1:{port}/mcp", {}) or []
            assert isinstance(made, McpSource)
            told = Told()
            try:
                made.subscribe(NOTE, told)
                yield told
            finally:
                made.close()

    return enter


def test_the_stream_is_open_before_the_subscription_counts_as_active(subscribed: Callable[..., Any]) -> None:
    server = Legacy()
    with subscribed(server) as told:
        told.until("active")
        assert server.methods.index("GET") < server.methods.index("resources/subscribe")
        server.change(NOTE)
        assert told.until("changed") == ["changed"]


@pytest.mark.slow
def test_a_stream_that_ends_is_told_as_a_gap_and_the_session_goes_on(subscribed: Callable[..., Any]) -> None:
    server = Legacy()
    with subscribed(server) as told:
        told.until("active")
        for _ in range(3):  # the SDK alone gives up after two
            server.say(None)
            assert told.until("active") == ["lost", "active"]
        server.change(NOTE)
        told.until("changed")
    assert server.methods.count("initialize") == 1
    assert server.methods.count("resources/subscribe") == 1


def test_a_stream_that_cannot_be_opened_again_means_a_new_session(subscribed: Callable[..., Any]) -> None:
    server = Legacy()
    with subscribed(server) as told:
        told.until("active")
        server.stream_status = 404
        server.say(None)
        told.until("lost")
        told.until("lost")
        server.stream_status = 200
        told.until("active")
        server.change(NOTE)
        told.until("changed")
    assert server.methods.count("initialize") > 1


@pytest.mark.parametrize(
    "server", [Legacy(stream_status=405), Legacy(session=False)], ids=["no stream", "no session"]
)
def test_a_server_that_cannot_be_heard_is_unsupported_whatever_it_announces(
    server: Legacy, subscribed: Callable[..., Any]
) -> None:
    with subscribed(server) as told:
        assert told.until("unsupported") == ["unsupported"]
    assert "resources/subscribe" not in server.methods

"""How the servers of commands read requests: in any pieces, and whatever else a client offers."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from agentd_cli.http.bounded_server import ClientLink, ConnectionLimits, _GatheringTransport, make_server
from anyio.abc import SocketStream

pytestmark = pytest.mark.anyio
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\n"
"""What the HTTP client of Java 11 and later sends with a request to a server that is not known yet."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # uvicorn's


def post(path: str, body: bytes, headers: bytes = b"") -> bytes:
    return b"POST %s HTTP/1.1\r\nHost: x\r\n%sContent-Length: %d\r\n\r\n%s" % (
        path.encode(),
        headers,
        len(body),
        body,
    )


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the path, the names of the headers and the body."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    names = b",".join(name for name, _ in scope["headers"])
    said = b"<%s %s %s>" % (scope["path"].encode(), names, body)
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-length", b"%d" % len(said))],
        }
    )
    await send({"type": "http.response.body", "body": said})


@asynccontextmanager
async def served(application: Any = echo) -> AsyncIterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = make_server(application, ConnectionLimits())
        async with anyio.create_task_group() as group:
            group.start_soon(server.serve, [listening])
            yield listening.getsockname()[1]
            server.should_exit = True


async def said(port: int, pieces: list[bytes], last: bytes) -> bytes:
    """The same on a connection of its own."""
    async with await anyio.connect_tcp("127.0.0.1", port) as opened:
        return await exchange(opened, pieces, last)


async def exchange(opened: SocketStream, pieces: list[bytes], last: bytes) -> bytes:
    """Send pieces, each when the one before it may have been read; return all up to what comes last."""
    found = b""
    with anyio.fail_after(30):
        for piece in pieces:
            await opened.send(piece)
            await anyio.sleep(0.001)
        while not found.endswith(last):
            found += await opened.receive()
    return found


async def test_a_request_that_offers_another_protocol_keeps_its_body_and_its_connection() -> None:
    body = b"a\r\nUpgrade: mine\r\n\r\nb"
    async with served() as port:
        first = await said(port, [post("/a", body, H2C)], b">")
        assert first.endswith(b"</a host,connection,http2-settings,content-length %b>" % body)
        async with await anyio.connect_tcp("127.0.0.1", port) as opened:
            assert (await exchange(opened, [post("/a", b"one")], b">")).endswith(b"one>")
            assert (await exchange(opened, [post("/b", b"two", H2C)], b">")).endswith(b"two>")
        get = b"GET /c HTTP/1.1\r\nHost: x\r\n%b\r\n" % H2C.lower()
        assert (await said(port, [get], b">")).endswith(b"</c host,connection,http2-settings >")


async def test_requests_are_read_in_any_pieces() -> None:
    # Nobody who sends several requests at once offers another protocol but with the first.
    sent = b"\r\n".join([post("/a", b"one", H2C) + post("/b", b"two"), post("/c", b"three")])
    dice = random.Random(1)
    async with served() as port:
        for number in range(150):
            cuts = sorted(dice.sample(range(1, len(sent)), number % 7))
            pieces = [sent[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(sent)], strict=True)]
            found = await said(port, pieces, b"three>")
            assert (b"one>" in found, b"two>" in found, found.count(b"HTTP/1.1 200 ")) == (True, True, 3)


def test_what_is_written_in_one_pass_goes_out_in_one_piece_or_when_it_is_told_to() -> None:
    sent: list[bytes] = []

    async def main() -> None:
        under = SimpleNamespace(write=sent.append, close=lambda: sent.append(b"closed"))
        transport = _GatheringTransport(under, asyncio.get_running_loop())
        transport.write(b"a")
        transport.write(b"b")
        assert sent == []
        transport.flush()
        assert sent == [b"ab"]
        transport.write(b"c")
        await asyncio.sleep(0)
        assert sent == [b"ab", b"c"]
        transport.flush()
        await asyncio.sleep(0)
        assert sent == [b"ab", b"c"]
        transport.write(b"d")
        transport.close()
        await asyncio.sleep(0)

    asyncio.run(main())
    assert sent == [b"ab", b"c", b"d", b"closed"]


def test_the_end_of_a_connection_is_told_to_each_request_that_is_not_over() -> None:
    link = ClientLink("peer")
    told: list[str] = []
    first = link.watched(lambda: told.append("first"))
    first.__enter__()
    with link.watched(lambda: told.append("second")):  # it came before the first one had ended
        first.__exit__(None, None, None)
        link.end()
        assert told == ["second"]
    with link.watched(lambda: told.append("third")):
        assert told == ["second", "third"]


@pytest.mark.parametrize("is_listening", [False, True])
@pytest.mark.parametrize("waiting", [0, 1])
async def test_who_leaves_is_noticed_by_the_request_that_is_answered_if_one_waits_behind_it(
    waiting: int, is_listening: bool, caplog: pytest.LogCaptureFixture
) -> None:
    begun, told, both = anyio.Event(), anyio.Event(), anyio.Event()

    async def listening(scope: Any, receive: Any, send: Any) -> None:
        """Never answer, as the client is gone before there is something to say."""
        assert scope["path"] == "/0"
        await receive()
        begun.set()
        if not is_listening:
            await both.wait()
        assert (await receive())["type"] == "http.disconnect"
        told.set()

    async with served(listening) as port:
        async with await anyio.connect_tcp("127.0.0.1", port) as opened:
            await opened.send(post("/0", b"body"))
            with anyio.fail_after(30):
                await begun.wait()
            for _ in range(waiting):
                await opened.send(post("/1", b"body"))
            await anyio.sleep(0.05)  # the other is read
            both.set()
        with anyio.fail_after(30):
            await told.wait()
    assert not caplog.records


async def test_each_of_several_requests_at_once_is_answered_and_the_last_one_notices_the_end() -> None:
    paths: list[str] = []
    told = anyio.Event()

    async def answering(scope: Any, receive: Any, send: Any) -> None:
        paths.append(scope["path"])
        if scope["path"] != "/2":
            await echo(scope, receive, send)
            return
        await receive()
        assert (await receive())["type"] == "http.disconnect"
        told.set()

    async with served(answering) as port:
        requests = b"".join(post(f"/{number}", b"body") for number in range(3))
        assert await said(port, [requests], b"</1 host,content-length body>")
        with anyio.fail_after(30):
            await told.wait()
    assert paths == ["/0", "/1", "/2"]

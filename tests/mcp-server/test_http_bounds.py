"""Clients of `agentd mcp --http` that send nothing, too much, or too slowly: others are served meanwhile."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
from agentd_cli.http.bounded_server import ConnectionLimits, make_server
from agentd_mcp_server.client_sandboxes import ClientSandboxes
from agentd_mcp_server.server import http_application
from anyio.abc import SocketStream
from mcp.server.lowlevel import Server
from mcp_serving import Wire

pytestmark = pytest.mark.anyio
REQUEST = (
    b"POST /mcp HTTP/1.1\r\nHost: %b\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n%b\r\n{"
)
HEALTH = b"GET /health HTTP/1.1\r\nHost: there\r\n\r\n"


class Place:
    """A server in this process, as the command makes it, and how to reach it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.host = b"127.0.0.1:%d" % port

    async def connect(self, sent: bytes) -> SocketStream:
        opened = await anyio.connect_tcp("127.0.0.1", self.port)
        await opened.send(sent)
        return opened

    async def answer(self, sent: bytes) -> bytes:
        """Return all that comes until the server closes the connection."""
        async with await self.connect(sent) as opened:
            return await rest(opened)


async def rest(opened: SocketStream) -> bytes:
    said = b""
    try:
        async for piece in opened:
            said += piece
    except anyio.BrokenResourceError:  # closed at once
        return said
    return said


@asynccontextmanager
async def serving(
    limits: ConnectionLimits, *, token: str = "", body_s: float = 60.0, sessions: int = 1000
) -> AsyncIterator[Place]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        place = Place(listening.getsockname()[1])
        app = http_application(
            Server("bounded"),
            hosts=[place.host.decode()],
            token=token,
            places=ClientSandboxes(lambda name: {}),
            sandboxes=1,
            reconnect_s=0.2,
            sessions=sessions,
            body_s=body_s,
        )
        server = make_server(app, limits, lifespan="on")
        async with anyio.create_task_group() as group:
            group.start_soon(server.serve, [listening])
            yield place
            server.should_exit = True


async def test_a_body_that_does_not_come_is_waited_for_no_longer_than_its_time() -> None:
    async with serving(ConnectionLimits(), body_s=0.2) as place:
        said = await place.answer(REQUEST % (place.host, b""))
    assert said.startswith(b"HTTP/1.1 408 ")
    assert said.endswith(b"the body did not come within 0.2 s\n")


async def test_who_is_not_let_in_is_told_so_before_the_body_and_let_go() -> None:
    async with serving(ConnectionLimits(), token="s3cret") as place:
        said = await place.answer(REQUEST % (place.host, b"Authorization: Bearer other\r\n"))
    assert said.startswith(b"HTTP/1.1 401 ")


async def test_a_head_that_does_not_come_or_does_not_end_is_cut_off() -> None:
    async with serving(ConnectionLimits(head_s=0.2, head_bytes=4096)) as place:
        assert await place.answer(b"POST /mcp HT") == b""
        assert await place.answer(b"") == b""
        head = b"GET /health HTTP/1.1\r\nHost: %b\r\n" % place.host
        endless = b"y" * 10_000
        for line in (b"X: ", b"X", b"X: y\r\n" * 2000):
            assert (await place.answer(head + line + endless)).startswith(b"HTTP/1.1 400 ")
        for whole in (head + b"X: " + endless + b"\r\n\r\n", b"GET /" + endless + b" HTTP/1.1\r\n\r\n"):
            assert (await place.answer(whole)).startswith(b"HTTP/1.1 400 ")
        assert (await place.answer(b"GET /" + endless)).startswith(b"HTTP/1.1 400 ")
        assert (await place.answer(b"\r\n" * 10_000)).startswith(b"HTTP/1.1 400 ")
        short = head + b"Connection: close\r\nX: " + b"y" * 3000 + b"\r\n\r\n"
        assert (await place.answer(short)).startswith(b"HTTP/1.1 200 ")


async def test_what_stands_behind_a_body_bounds_itself_and_is_no_header() -> None:
    begin = b"POST /mcp HTTP/1.1\r\nHost: %b\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    limits = ConnectionLimits(head_bytes=4096)
    async with serving(limits, token="s3cret") as place:
        said = await place.answer(
            begin % place.host + b"2\r\n{}\r\n0\r\nAuthorization: Bearer s3cret\r\n\r\n"
        )
        assert said.startswith(b"HTTP/1.1 401 ")
    async with serving(limits) as place:
        endless = b"x" * 600_000  # more than is read at once
        for more in (b"2;" + endless, b"2\r\n{}\r\n0\r\nX: " + endless):
            assert (await place.answer(begin % place.host + more)).startswith(b"HTTP/1.1 400 ")


async def test_connections_whose_requests_do_not_come_make_room_for_others() -> None:
    async with serving(ConnectionLimits(connections=4, silent=4, slow_s=0, head_s=60)) as place:
        slow = [await place.connect(REQUEST % (place.host, b"Expect: 100-continue\r\n")) for _ in range(4)]
        for one in slow:
            assert (await one.receive()).startswith(b"HTTP/1.1 100 ")  # the body is waited for
        async with await place.connect(HEALTH) as opened:
            assert (await opened.receive()).startswith(b"HTTP/1.1 200 ")
        assert await rest(slow[0]) == b""  # the oldest
        for one in slow:
            await one.aclose()


async def test_a_request_that_says_twice_who_asks_is_refused() -> None:
    twice = b"Authorization: Bearer s3cret\r\nAuthorization: Bearer other\r\n"
    async with serving(ConnectionLimits(), token="s3cret") as place:
        said = await place.answer(REQUEST % (place.host, twice))
    assert said.startswith(b"HTTP/1.1 400 ")
    assert b"authorization: is there twice" in said


async def test_sessions_that_nobody_uses_make_room_for_others() -> None:
    def come_and_go(url: str) -> list[int]:
        wires = [Wire(url) for _ in range(4)]
        for wire in wires:
            wire.begin()
            if wire is wires[0]:
                wire.request("GET")  # it listens
        statuses = [wire.post("notifications/initialized").status for wire in wires]
        for wire in wires:
            wire.hang_up()
        return statuses

    async with serving(ConnectionLimits(), sessions=2) as place:
        url = f"http://127.0.0.1:{place.port}/mcp"
        assert await anyio.to_thread.run_sync(come_and_go, url) == [202, 404, 404, 202]


async def test_a_request_whose_id_is_none_that_it_may_have_is_answered() -> None:
    def ask(url: str) -> list[tuple[int, object]]:
        wire = Wire(url)
        wire.begin()
        answers = []
        for number in (1.5, None, True):
            answer = wire.request("POST", json.dumps({"jsonrpc": "2.0", "id": number, "method": "ping"}))
            answers.append((answer.status, json.load(answer)["id"]))
        wire.hang_up()
        return answers

    async with serving(ConnectionLimits()) as place:
        url = f"http://127.0.0.1:{place.port}/mcp"
        assert await anyio.to_thread.run_sync(ask, url) == [(400, 1.5), (400, None), (400, None)]


async def test_requests_that_meet_the_end_of_their_session_are_answered_and_no_traceback_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def begun(url: str) -> str:
        wire = Wire(url)
        wire.begin()
        wire.hang_up()
        return wire.session

    def request(place: Place, session: str, verb: str, **message: object) -> bytes:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode() if message else b""
        head = (
            f"{verb} /mcp HTTP/1.1\r\nHost: {place.host.decode()}\r\nContent-Type: application/json\r\n"
            "Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: 2025-11-25\r\n"
            f"Mcp-Session-Id: {session}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        return head.encode() + body

    answers: dict[str, list[bytes]] = {"DELETE": [], "GET": [], "POST": []}

    async def ask(place: Place, sent: bytes) -> None:
        answers[sent.split()[0].decode()].append((await place.answer(sent))[9:12])

    logging.getLogger("uvicorn.error").addHandler(caplog.handler)
    try:
        async with serving(ConnectionLimits()) as place:
            for _ in range(5):
                session = await anyio.to_thread.run_sync(begun, f"http://127.0.0.1:{place.port}/mcp")
                progress = {"method": "notifications/progress", "params": {"progressToken": 1, "progress": 1}}
                requests = [request(place, session, "GET")]
                for number in range(8):
                    requests.append(request(place, session, "POST", method="ping", id=number))
                    requests.append(request(place, session, "POST", **progress))
                requests[8:8] = [request(place, session, "DELETE")] * 2
                requests.append(request(place, session, "GET"))
                # All are over soon, though nobody closes the streams that are read.
                with anyio.fail_after(20):
                    async with anyio.create_task_group() as group:
                        for sent in requests:
                            group.start_soon(ask, place, sent)
    finally:
        logging.getLogger("uvicorn.error").removeHandler(caplog.handler)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert sorted(answers["DELETE"]) == [b"200"] * 5 + [b"404"] * 5
    assert set(answers["GET"]) <= {b"200", b"404", b"409"}
    assert set(answers["POST"]) <= {b"200", b"202", b"404"}


async def test_whatever_else_is_wrong_a_session_that_is_gone_is_not_there() -> None:
    def ask(url: str) -> list[int]:
        wire = Wire(url)
        wire.begin()
        wire.request("GET")
        assert wire.request("DELETE").status == 200
        ids = [
            wire.request("POST", json.dumps({"jsonrpc": "2.0", "id": number, "method": "ping"}))
            for number in (1, 1.5)
        ]
        others = [wire.request("POST", "{nope"), wire.request("GET"), wire.request("DELETE")]
        wire.hang_up()
        return [answer.status for answer in (*ids, *others)]

    async with serving(ConnectionLimits()) as place:
        statuses = await anyio.to_thread.run_sync(ask, f"http://127.0.0.1:{place.port}/mcp")
    assert statuses == [404] * 5

"""Clients that hold places without asking anything: others are served meanwhile."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from agentd_cli.http.connections import ConnectionPlaces, peer_of
from agentd_serve.admission import Admission
from agentd_serve.answering import AnswerLimits
from agentd_serve.keys import ServedKey
from agentd_serve.refusals import RefusedRequestError
from fake_openai import Answer, FakeOpenAI
from served import Served

CHAT = "/v1/chat/completions"
GOOD: dict[str, Any] = {"model": "m1", "messages": [{"role": "user", "content": "How many?"}]}
SMALL: dict[str, Any] = {"max_requests": 2, "queue": 0}
"""72 connections, and 18 of them silent."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def head(served: Served, length: int = 20) -> bytes:
    host = f"{served.address[0]}:{served.address[1]}"
    return (
        f"POST {CHAT} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {length}\r\n\r\n"
    ).encode()


def is_closed(opened: socket.socket) -> bool:
    try:
        return opened.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("sent", [b"", b"POST /v1/chat/comp"], ids=["silent", "half a head"])
def test_connections_that_ask_nothing_make_room_for_those_that_do(tmp_path: Path, sent: bytes) -> None:
    with (
        FakeOpenAI("Fine.", repeat=True) as fake,
        Served(fake, tmp_path, **SMALL, head_s=600) as served,
        ExitStack() as opened,
    ):
        silent = [
            opened.enter_context(socket.create_connection(served.address, timeout=30)) for _ in range(100)
        ]
        for one in silent:
            one.sendall(sent)
        for _ in range(2):  # the first may be accepted before anything of the others is read
            assert served.send(GOOD)[0] == 200
        assert all(is_closed(one) for one in silent[:80])  # the oldest


def test_a_connection_that_was_there_first_and_has_asked_is_kept(tmp_path: Path) -> None:
    slow = Answer(text="It takes time.", wait_after=4)
    with (
        FakeOpenAI(slow, "Fine.") as fake,
        Served(fake, tmp_path, **SMALL, head_s=600) as served,
        ExitStack() as opened,
        served.begin({**GOOD, "stream": True}) as asked,
    ):
        begun = asked.recv(10_000)
        assert begun.startswith(b"HTTP/1.1 200 ")
        for _ in range(100):
            opened.enter_context(socket.create_connection(served.address, timeout=30))
        assert served.send(GOOD)[0] == 200
        slow.gate.set()
        while not begun.endswith(b"0\r\n\r\n"):
            piece = asked.recv(10_000)
            assert piece
            begun += piece


def test_connections_that_rest_make_room_for_those_that_ask(tmp_path: Path) -> None:
    with (
        FakeOpenAI("Fine.", repeat=True) as fake,
        Served(fake, tmp_path, **SMALL) as served,
        ExitStack() as opened,
    ):
        host = f"{served.address[0]}:{served.address[1]}"
        for _ in range(100):
            resting = opened.enter_context(socket.create_connection(served.address, timeout=30))
            resting.sendall(f"GET /health HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            assert resting.recv(4096).startswith(b"HTTP/1.1 200 ")
        assert served.send(GOOD)[0] == 200


def test_requests_whose_bodies_come_slowly_give_up_their_places(tmp_path: Path) -> None:
    limits = AnswerLimits(slow_s=0.0, body_s=600)
    with (
        FakeOpenAI("Fine.", repeat=True) as fake,
        Served(fake, tmp_path, **SMALL, answers=limits) as served,
        ExitStack() as opened,
    ):
        slow = [opened.enter_context(socket.create_connection(served.address, timeout=30)) for _ in range(3)]
        for one in slow:
            one.sendall(head(served) + b"{")
        assert served.send(GOOD)[0] == 200
        reply = slow[0].recv(10_000)
        assert reply.startswith(b"HTTP/1.1 408 ")
        assert b"connection: close" in reply.lower()


@pytest.mark.anyio
async def test_a_body_that_comes_as_bodies_do_keeps_its_place(tmp_path: Path) -> None:
    admission, key = Admission(most=1, waiting=0, wait_s=1, slow_s=600), ServedKey(name="a")
    with admission.place(key) as place, admission.reading(place):
        with pytest.raises(RefusedRequestError) as caught, admission.place(key):
            pass
        assert caught.value.status == 429
    assert (admission.under_way, key.under_way) == (0, 0)


@pytest.mark.anyio
async def test_who_has_most_slow_bodies_gives_up_a_place(tmp_path: Path) -> None:
    admission, key = Admission(most=3, waiting=0, wait_s=1, slow_s=0), ServedKey(name="a")
    told: list[str] = []

    async def send_slowly(name: str, peer: str) -> None:
        try:
            with admission.place(key, peer) as place, admission.reading(place):
                await anyio.sleep_forever()
        except RefusedRequestError as error:
            told.append(f"{name}: {error.status}")

    async with anyio.create_task_group() as group:
        for name, peer in (("quiet", "10.0.0.1"), ("first", "10.0.0.2"), ("second", "10.0.0.2")):
            group.start_soon(send_slowly, name, peer)
            await anyio.wait_all_tasks_blocked()
        with admission.place(key, "10.0.0.3"):
            await anyio.wait_all_tasks_blocked()
            assert told == ["first: 408"]
            assert admission.under_way == 3
        group.cancel_scope.cancel()
    assert (admission.under_way, key.under_way) == (0, 0)


@pytest.mark.anyio
async def test_the_end_of_the_server_ends_whoever_reads_or_runs(tmp_path: Path) -> None:
    admission, key = Admission(most=3, waiting=0, wait_s=1), ServedKey(name="a")
    told: list[str] = []

    async def hold(name: str) -> None:
        try:
            with admission.place(key) as place:
                if name == "reads":
                    with admission.reading(place):
                        await anyio.sleep_forever()
                async with admission.turn():
                    await anyio.sleep_forever()
        except RefusedRequestError as error:
            told.append(f"{name}: {error.status}")

    async with anyio.create_task_group() as group:
        for name in ("reads", "runs"):
            group.start_soon(hold, name)
        await anyio.wait_all_tasks_blocked()
        admission.drain()
        admission.cancel()
    assert sorted(told) == ["reads: 503", "runs: 503"]
    assert (admission.under_way, key.under_way) == (0, 0)


@pytest.mark.anyio
async def test_a_slow_body_is_ended_and_others_are_not(tmp_path: Path) -> None:
    admission, key = Admission(most=3, waiting=0, wait_s=1), ServedKey(name="a")
    told: list[str] = []

    async def send_slowly() -> None:
        try:
            with admission.place(key) as place, admission.reading(place):
                await anyio.sleep_forever()
        except RefusedRequestError as error:
            told.append(str(error.status))

    async with anyio.create_task_group() as group:
        group.start_soon(send_slowly)
        await anyio.wait_all_tasks_blocked()
        with admission.place(key) as place:
            with admission.reading(place):
                pass  # its body is there
            admission.end_slow(60)
            await anyio.wait_all_tasks_blocked()
            assert told == []
            admission.end_slow(0)
            await anyio.wait_all_tasks_blocked()
            assert told == ["408"]
            await anyio.lowlevel.checkpoint()  # nobody has cancelled it


class Socket:
    """A connection whose other end is the test's."""

    def __init__(self, peer: str) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.peer = peer
        self.is_aborted = False
        self.transport = self

    def get_extra_info(self, name: str) -> Any:
        return {"socket": self.ours, "peername": (self.peer, 1)}[name]

    def abort(self) -> None:
        self.is_aborted = True

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()


def test_a_peer_with_many_silent_connections_closes_its_own_alone() -> None:
    places = ConnectionPlaces(most=100, silent=4)
    quiet = Socket("10.0.0.1")
    greedy = [Socket("10.0.0.2") for _ in range(10)]
    for one in (quiet, *greedy):
        places.enter(one, peer_of(one))
    assert not quiet.is_aborted
    assert [one.is_aborted for one in greedy] == [True] * 7 + [False] * 3
    for one in (quiet, *greedy):
        one.close()


def test_a_connection_whose_request_is_there_but_not_read_yet_is_not_silent() -> None:
    places = ConnectionPlaces(most=100, silent=2)
    quick, silent, last = (Socket("10.0.0.1") for _ in range(3))
    quick.theirs.sendall(b"GET")
    for one in (quick, silent, last):
        places.enter(one, "10.0.0.1")
    assert (quick.is_aborted, silent.is_aborted, last.is_aborted) == (False, True, False)
    for one in (quick, silent, last):
        one.close()


@pytest.mark.parametrize(
    ("address", "peer"),
    [
        ("10.1.2.3", "10.1.2.3"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
        ("", ""),
    ],
)
def test_a_peer_is_an_address_or_the_network_of_one(address: str, peer: str) -> None:
    one = Socket(address)
    assert peer_of(one) == peer
    one.close()


def ask_on_and_on(opened: socket.socket, request: bytes) -> None:
    while True:
        opened.sendall(request * 1000)


def test_a_client_that_asks_on_and_on_and_takes_nothing_is_let_go(tmp_path: Path) -> None:
    limits = AnswerLimits(stall_s=0.2)
    models = ("m1", *(f"model-{number}" for number in range(3000)))  # whose list is long
    with FakeOpenAI("Fine.") as fake, Served(fake, tmp_path, answers=limits, models=models) as served:
        host = f"{served.address[0]}:{served.address[1]}"
        request = f"GET /v1/models HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
        with socket.create_connection(served.address, timeout=30) as opened:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            with pytest.raises((ConnectionResetError, BrokenPipeError)):
                ask_on_and_on(opened, request)
        assert served.send(GOOD)[0] == 200

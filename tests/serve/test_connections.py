"""Several requests over one connection, and what is on its way when the server ends."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from agentd_serve.keys import KeyRing, ServedKey
from fake_openai import Answer, FakeOpenAI
from served import Served, is_gone, until

ASK: Any = [{"role": "user", "content": "How many?"}]
GOOD: dict[str, Any] = {"model": "m1", "messages": ASK}
HELLO = "```bash:execute\necho hello\n```\n"


def request(served: Served, body: dict[str, Any]) -> bytes:
    data = json.dumps(body).encode()
    host = f"{served.address[0]}:{served.address[1]}"
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data


def read_answer(opened: socket.socket, *, streamed: bool) -> bytes:
    """Read one answer that runs code, and no further."""
    got = b""
    while not (got.endswith(b"0\r\n\r\n") if streamed else got.endswith(b"}}")):
        piece = opened.recv(65536)
        assert piece, got
        got += piece
    return got


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
def test_who_leaves_in_a_later_request_of_a_connection_ends_its_code(tmp_path: Path, streamed: bool) -> None:
    pid = tmp_path / "pid"
    sleep = f"```bash:execute\necho $$ > {pid}; sleep 300\n```\n"
    with FakeOpenAI(HELLO, "Fine.", sleep) as fake, Served(fake, tmp_path / "root") as served:
        with socket.create_connection(served.address, timeout=60) as opened:
            opened.sendall(request(served, {**GOOD, "stream": streamed}))
            assert b"hello" in read_answer(opened, streamed=streamed)
            opened.sendall(
                request(served, {**GOOD, "stream": streamed})
            )  # the first one's sandbox still ends
            code = int(until(lambda: pid.exists() and pid.read_text()))
        until(lambda: is_gone(code))
        until(lambda: served.settings.ring.anyone.under_way == 0)


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
def test_a_key_for_one_request_at_once_serves_one_after_the_other(tmp_path: Path, streamed: bool) -> None:
    ring = KeyRing(anyone=ServedKey(name="anyone", max_requests=1))
    with FakeOpenAI(*[HELLO, "Fine."] * 8) as fake, Served(fake, tmp_path, ring=ring) as served:
        with socket.create_connection(served.address, timeout=60) as opened:
            for _ in range(8):
                opened.sendall(request(served, {**GOOD, "stream": streamed}))
                assert read_answer(opened, streamed=streamed).startswith(b"HTTP/1.1 200")
        until(lambda: not any((tmp_path / "requests").glob("*/*")))


def test_a_body_that_comes_once_the_server_is_to_end_begins_nothing(tmp_path: Path) -> None:
    with FakeOpenAI("Fine.", repeat=True) as fake, Served(fake, tmp_path, grace_s=30) as served:
        whole = request(served, GOOD)
        with socket.create_connection(served.address, timeout=60) as opened:
            opened.sendall(whole[:-5])
            until(lambda: served.settings.ring.anyone.under_way == 1)
            served.begin_to_end()
            until(lambda: served.send(GOOD)[0] == 503)
            opened.sendall(whole[-5:])
            assert opened.recv(100).startswith(b"HTTP/1.1 503 ")
        assert not fake.requests


def test_an_answer_that_is_not_taken_yet_still_comes_when_the_server_ends(tmp_path: Path) -> None:
    size = 12_000_000  # more than the kernel keeps for a connection
    fake = FakeOpenAI(piece=1_000_000)
    fake.decide = lambda request: Answer(text="x" * size)
    with fake, Served(fake, tmp_path, grace_s=30) as served:
        with served.begin(GOOD) as opened:
            assert opened.recv(12) == b"HTTP/1.1 200"
            until(lambda: served.settings.ring.anyone.under_way == 0)  # all of it is sent, for the server
            served.begin_to_end()
            got = b""
            while piece := opened.recv(1 << 20):
                got += piece
        answer = json.loads(got.partition(b"\r\n\r\n")[2])
        assert len(answer["choices"][0]["message"]["content"]) == size

"""What a client may do wrong: it is told so, in OpenAI's form, and the others are served."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import openai
import pytest
from agentd_serve.answering import AnswerLimits
from fake_openai import Answer, FakeOpenAI
from served import Served

ASK: Any = [{"role": "user", "content": "How many?"}]
CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"
GOOD: dict[str, Any] = {"model": "m1", "messages": ASK}


def still_serves(served: Served) -> None:
    assert (
        served.client().chat.completions.create(model="m1", messages=ASK).choices[0].message.content
        == "Fine."
    )


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (CHAT, b"{", None),
        (CHAT, b"", None),
        (CHAT, b"\xff\xfe{}", None),
        (CHAT, b"[" * 100_000, None),
        (CHAT, b'{"model": "m1", "messages": NaN}', None),
        (CHAT, b"[]", None),
        (CHAT, b"7", None),
        (CHAT, {}, "model"),
        (CHAT, {"model": 7, "messages": ASK}, "model"),
        (CHAT, {"model": "m1"}, "messages"),
        (CHAT, {"model": "m1", "messages": []}, "messages"),
        (CHAT, {"model": "m1", "messages": "hello"}, "messages"),
        (CHAT, {"model": "m1", "messages": [7]}, "messages[0]"),
        (CHAT, {**GOOD, "stream": "yes"}, "stream"),
        (CHAT, {**GOOD, "tools": {"a": 1}}, "tools"),
        (CHAT, {**GOOD, "tools": ["bash"]}, "tools[0]"),
        (CHAT, {**GOOD, "n": 2}, "n"),
        (CHAT, {**GOOD, "stream_options": 1, "stream": True}, "stream_options"),
        (CHAT, {**GOOD, "response_format": "json"}, "response_format"),
        (RESPONSES, {"model": "m1"}, "input"),
        (RESPONSES, {"model": "m1", "input": 7}, "input"),
        (RESPONSES, {"model": "m1", "input": ["x"]}, "input[0]"),
        (RESPONSES, {"model": "m1", "input": "x", "background": True}, "background"),
        (RESPONSES, {"model": "m1", "input": "x", "conversation": "conv_1"}, "conversation"),
        (RESPONSES, {"model": "m1", "input": "x", "text": "json"}, "text"),
        (RESPONSES, {"model": "m1", "input": "x", "previous_response_id": 7}, "previous_response_id"),
        (RESPONSES, {"model": "m1", "input": "x", "tools": [{"type": "web_search"}]}, "tools[0]"),
    ],
)
def test_a_body_that_is_wrong_is_refused_with_the_argument(
    tmp_path: Path, path: str, body: object, param: str | None
) -> None:
    with FakeOpenAI("Fine.", repeat=True) as fake, Served(fake, tmp_path) as served:
        status, _, told = served.send(body, path)
        assert status == 400
        assert told["error"]["type"] == "invalid_request_error"
        assert told["error"]["param"] == param
        assert fake.requests == []
        still_serves(served)


@pytest.mark.parametrize(
    "name", ["mcp_servers", "api_base", "base_url", "api_key", "extra_headers", "timeout"]
)
@pytest.mark.parametrize("path", [CHAT, RESPONSES])
def test_what_a_program_tells_the_sdk_no_client_tells_the_server(
    tmp_path: Path, name: str, path: str
) -> None:
    with FakeOpenAI("Fine.", repeat=True) as fake, Served(fake, tmp_path) as served:
        status, _, told = served.send({**GOOD, "input": "x", name: ["true"]}, path)
        assert (status, told["error"]["param"]) == (400, name)
        assert fake.requests == []
        still_serves(served)


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"Content_Type": "text/plain"}, 415, "unsupported_content_type"),
        ({"Content_Type": "application/x-www-form-urlencoded"}, 415, "unsupported_content_type"),
        ({"Content_Encoding": "gzip"}, 415, "unsupported_encoding"),
        ({"Host": "evil.example"}, 403, "unknown_host"),
        ({"Host": "127.0.0.1:1"}, 403, "unknown_host"),
        ({"Origin": "https://evil.example"}, 403, "foreign_origin"),
        ({"Origin": "null"}, 403, "foreign_origin"),
        ({"X_Agentd_Session": "../up"}, 400, "invalid_session"),
        ({"X_Agentd_Session": "x" * 65}, 400, "invalid_session"),
    ],
)
def test_a_request_with_headers_that_are_wrong_is_refused(
    tmp_path: Path, headers: dict[str, str], status: int, code: str
) -> None:
    with FakeOpenAI("Fine.", repeat=True) as fake, Served(fake, tmp_path) as served:
        got, found, told = served.send(GOOD, **headers)
        assert (got, told["error"]["code"]) == (status, code)
        assert not any(name.startswith("access-control") for name in found)
        assert fake.requests == []
        still_serves(served)


def test_a_page_on_another_name_is_let_in_where_that_name_is_allowed(tmp_path: Path) -> None:
    with FakeOpenAI("Fine.") as fake, Served(fake, tmp_path, allowed_hosts=("gate.example",)) as served:
        assert served.send(GOOD, Host="GATE.example")[0] == 200


@pytest.mark.parametrize("is_told", [True, False], ids=["content-length", "chunked"])
def test_a_body_that_is_too_large_is_refused_before_it_was_read(tmp_path: Path, is_told: bool) -> None:
    limits = AnswerLimits(body_bytes=1000)
    with FakeOpenAI("Fine.", repeat=True) as fake, Served(fake, tmp_path, answers=limits) as served:
        head = f"POST {CHAT} HTTP/1.1\r\nHost: {served.address[0]}:{served.address[1]}\r\n"
        head += "Content-Type: application/json\r\n"
        with socket.create_connection(served.address, timeout=30) as opened:
            if is_told:
                opened.sendall(f"{head}Content-Length: 2000\r\n\r\n".encode())
            else:
                chunk = b"400\r\n%b\r\n" % (b" " * 1024)
                opened.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunk)
            reply = read_to_the_end(opened)
        assert reply.startswith(b"HTTP/1.1 413 ")
        assert json.loads(reply.partition(b"\r\n\r\n")[2])["error"]["code"] == "request_too_large"
        assert b"connection: close" in reply.lower()
        still_serves(served)


def test_a_body_that_does_not_come_is_not_waited_for(tmp_path: Path) -> None:
    limits = AnswerLimits(body_s=0.1)
    with FakeOpenAI("Fine.", repeat=True) as fake, Served(fake, tmp_path, answers=limits) as served:
        head = f"POST {CHAT} HTTP/1.1\r\nHost: {served.address[0]}:{served.address[1]}\r\n"
        with socket.create_connection(served.address, timeout=30) as opened:
            opened.sendall(f"{head}Content-Type: application/json\r\nContent-Length: 20\r\n\r\n{{".encode())
            assert read_to_the_end(opened).startswith(b"HTTP/1.1 408 ")
        still_serves(served)


def test_a_head_that_does_not_come_or_never_ends_is_not_waited_for(tmp_path: Path) -> None:
    with FakeOpenAI("Fine.", repeat=True) as fake, Served(fake, tmp_path, head_s=0.2) as served:
        with socket.create_connection(served.address, timeout=30) as opened:
            opened.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: ")
            assert is_closed(opened)
        with socket.create_connection(served.address, timeout=30) as opened:
            opened.sendall(b"GET /health HTTP/1.1\r\nX: " + b"x" * 100_000)
            reply = read_to_the_end(opened)
        assert reply == b"" or reply.startswith(b"HTTP/1.1 400 ")
        still_serves(served)


def test_a_connection_that_rests_between_requests_is_kept_for_a_while(tmp_path: Path) -> None:
    with FakeOpenAI("Fine.", repeat=True) as fake, Served(fake, tmp_path, head_s=0.05) as served:
        request = f"GET /health HTTP/1.1\r\nHost: {served.address[0]}:{served.address[1]}\r\n\r\n".encode()
        with socket.create_connection(served.address, timeout=30) as opened:
            for _ in range(2):
                opened.sendall(request)
                reply = b""
                while not reply.endswith(b"}"):
                    reply += opened.recv(4096)
                assert reply.startswith(b"HTTP/1.1 200 ")
                opened.settimeout(0.3)  # longer than a head may take
                with pytest.raises(TimeoutError):
                    opened.recv(1)
                opened.settimeout(30)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("POST", "/v1/completions", 404),
        ("GET", CHAT, 405),
        ("OPTIONS", CHAT, 405),
        ("POST", "/v1/models", 405),
        ("GET", "/v1/models/..%2f..", 404),
    ],
)
def test_what_is_not_there_is_told_in_openais_form(
    tmp_path: Path, method: str, path: str, status: int
) -> None:
    with FakeOpenAI("Fine.", repeat=True) as fake, Served(fake, tmp_path) as served:
        got, found, told = served.send(GOOD, path, method=method)
        assert (got, set(told["error"])) == (status, {"message", "type", "param", "code"})
        assert not any(name.startswith("access-control") for name in found)


@pytest.mark.parametrize(
    ("method", "path", "body", "next_step"),
    [
        ("GET", "/models", GOOD, "GET /v1/models, "),
        ("GET", CHAT, GOOD, "must be POST"),
        ("POST", CHAT, {**GOOD, "n": 2}, "ask more than once"),
    ],
)
def test_what_a_client_does_a_little_wrong_is_told_with_the_step_that_this_server_takes(
    tmp_path: Path, method: str, path: str, body: Any, next_step: str
) -> None:
    with FakeOpenAI("Fine.", repeat=True) as fake, Served(fake, tmp_path) as served:
        message = served.send(body, path, method=method)[2]["error"]["message"]
        assert next_step in message
        assert "ptc_enabled" not in message  # of a program that patches a client, and refused here


BROKEN: dict[str, Any] = {
    "key": (Answer(status=401, error={"message": "Incorrect API key: sk-secret"}), 502),
    "request": (Answer(status=400, error={"message": "temperature is too high"}), 400),
    "model": (Answer(status=404, error={"message": "no such model"}), 404),
    "failed": (Answer(status=500, error={"message": "it broke"}), 502),
    "busy": (Answer(status=429, error={"message": "slow down"}), 429),
    "gone": (Answer(text="A long answer.", disconnect_after=0), 502),
    "malformed": (Answer(text="A long answer.", malformed_after=0), 502),
}


@pytest.mark.parametrize("path", [CHAT, RESPONSES])
@pytest.mark.parametrize("what", BROKEN)
def test_what_is_wrong_at_the_models_server_is_told_to_the_client_that_asked(
    tmp_path: Path, what: str, path: str
) -> None:
    answer, code = BROKEN[what]
    with FakeOpenAI() as fake, Served(fake, tmp_path, retries=0) as served:
        fake.decide = lambda request: answer if is_broken(request) else Answer(text="Fine.")
        asked = {"model": "m1", "messages": [{"role": "user", "content": "x"}], "input": "x"}
        asked.pop("input" if path == CHAT else "messages")
        for streamed in (False, True):
            if what in ("gone", "malformed") and not streamed:
                continue  # it answers whole
            status, found, told = served.send({**asked, "stream": streamed}, path)
            if status == 200:  # it had begun
                told = json.loads(told.decode().strip().splitlines()[-1].removeprefix("data: "))
                assert "[DONE]" not in str(told)
            else:
                assert status == code
            assert told["error"]["message"]
            assert "sk-secret" not in str(told)
            assert ("retry-after" in found) == (what == "busy")
        still_serves(served)


@pytest.mark.parametrize("path", [CHAT, RESPONSES])
def test_a_stream_that_breaks_in_the_middle_ends_with_an_error_that_the_sdk_raises(
    tmp_path: Path, path: str
) -> None:
    with FakeOpenAI() as fake, Served(fake, tmp_path, retries=0) as served:
        broken = Answer(text="A long answer.", cut_after=8)
        fake.decide = lambda request: broken if is_broken(request) else Answer(text="Fine.")
        client: Any = served.client()
        text: list[str] = []

        def read() -> None:
            if path == CHAT:
                asked = [{"role": "user", "content": "x"}]
                chunks = client.chat.completions.create(model="m1", messages=asked, stream=True)
                text.extend(chunk.choices[0].delta.content or "" for chunk in chunks)
            else:
                events = client.responses.create(model="m1", input="x", stream=True)
                text.extend(event.delta for event in events if event.type == "response.output_text.delta")

        with pytest.raises(openai.APIError, match="ended without its finish marker"):
            read()
        assert "".join(text) == "A long a"
        still_serves(served)


def test_an_upstream_that_is_not_there_is_told_and_when_it_is_back_it_is_asked(tmp_path: Path) -> None:
    with FakeOpenAI("Fine.") as fake:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            nowhere = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
        with Served(fake, tmp_path, base_url=nowhere, retries=0) as served:
            for streamed in (False, True):
                status, _, told = served.send({**GOOD, "stream": streamed})
                assert (status, told["error"]["code"]) == (502, "upstream_failed")


def is_broken(request: dict[str, Any]) -> bool:
    return bool(request["messages"][-1]["content"] == "x")


def read_to_the_end(opened: socket.socket) -> bytes:
    pieces = []
    try:
        while data := opened.recv(65536):
            pieces.append(data)
    except ConnectionResetError:  # what we sent was not all read
        pass
    return b"".join(pieces)


def is_closed(opened: socket.socket) -> bool:
    return read_to_the_end(opened) == b""

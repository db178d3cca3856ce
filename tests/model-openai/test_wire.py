"""The wire of a client: what goes over it and what does not, and that it is as good as the connections of the HTTP
library. What it sends and how its answers are told is compared with the SDK in `test_quick_chat`."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import gzip
import json
import logging
import os
import shutil
import ssl
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from agentd_model_openai.quick_chat import quick_stream
from agentd_model_openai.source import Source
from agentd_model_openai.tls import http_settings
from agentd_model_openai.wire import ModelWire, WireError, WireRequest
from multidict import CIMultiDict
from yarl import URL

ASKED: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def piece(text: str) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    data = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(data).encode() + b"\n\n"


GOOD = piece("Hel") + b": still here\n\n" + piece("lo \u2713") + b"data: [DONE]\n\n"


def reply(body: bytes, *headers: bytes, status: bytes = b"200 OK") -> bytes:
    length = b"content-length: %d" % len(body)
    return b"\r\n".join([b"HTTP/1.1 " + status, length, *headers, b"", b""]) + body


def chunked(*bodies: bytes) -> bytes:
    parts = [b"%x\r\n%b\r\n" % (len(body), body) for body in bodies]
    return b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"".join(parts) + b"0\r\n\r\n"


async def request_of(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    return head + await reader.readexactly(int(length.partition(b":")[2]))


class Server:
    """Answers what is asked of it over each connection with what is next."""

    def __init__(self, *answers: bytes | Serve) -> None:
        self.answers = list(answers)
        self.requests: list[bytes] = []
        self.connections = self.open = 0
        self.ended, self.closed = asyncio.Event(), asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        try:
            while True:
                self.requests.append(await request_of(reader))
                answer = self.answers.pop(0)
                if callable(answer):
                    await answer(reader, writer)
                else:
                    writer.write(answer)
                if not callable(answer) and b"connection: close" in answer:
                    return
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.ended.set()
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            self.open -= 1
            self.closed.set()


@asynccontextmanager
async def served(
    *answers: bytes | Serve, context: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[Server, int]]:
    server = Server(*answers)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=context)
    async with listening:
        yield server, listening.sockets[0].getsockname()[1]


@asynccontextmanager
async def wired(port: int, **more: Any) -> AsyncIterator[Any]:
    """A client with a wire that has asked once, so that it knows how the SDK asks."""
    settings = {"base_url": f"http://127.0.0.1:{port}/v1", "api_key": "k", "max_retries": 0, **more}
    async with openai.AsyncOpenAI(**settings, **http_settings(openai, is_async=True, wired=True)) as client:
        assert await asked(client) == "Hello \u2713"
        yield client


async def asked(client: Any) -> str:
    stream = await quick_stream(client.chat.completions.create, ASKED)
    text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    await stream.close()
    return text


@pytest.fixture
def over_wire(monkeypatch: pytest.MonkeyPatch) -> list[WireRequest]:
    """The requests that have gone over a wire."""
    found: list[WireRequest] = []
    ask = ModelWire.ask

    async def noted(self: ModelWire, request: WireRequest, body: bytes) -> Any:
        found.append(request)
        return await ask(self, request, body)

    monkeypatch.setattr(ModelWire, "ask", noted)
    return found


def needs_bytes(client: Any) -> None:
    """Older SDKs leave it to their HTTP library to write a body, and are asked through it."""
    from agentd_model_openai.quick_chat import _forms

    if any(form.is_json for form in _forms[client].values()):
        pytest.skip(
            "this SDK hands the body over as an object, so nothing goes over the wire: install a newer openai"
        )


@pytest.mark.anyio
async def test_a_connection_is_used_again_and_another_one_made_when_the_server_has_closed_it(
    over_wire: list[WireRequest],
) -> None:
    closing = reply(GOOD, b"connection: close")
    answers = (reply(GOOD), reply(GOOD), chunked(GOOD), closing, reply(GOOD))
    async with served(*answers) as (server, port), wired(port) as client:
        needs_bytes(client)
        for connections in (2, 2, 2, 3):  # one is the HTTP library's
            assert await asked(client) == "Hello \u2713"
            assert server.connections == connections
    assert len(over_wire) == 4


@pytest.mark.anyio
async def test_an_answer_is_the_same_however_it_comes() -> None:
    async def in_bytes(_: Any, writer: asyncio.StreamWriter) -> None:
        early = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
        for byte in early + chunked(GOOD[:100], GOOD[100:]):
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)

    async def until_the_end(_: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + GOOD)
        writer.close()

    ends = (
        GOOD.replace(b"\n", b"\r\n"),
        GOOD.replace(b"data: {", b"event: x\ndata: {"),
        GOOD[: -len(b"data: [DONE]\n\n")],
    )
    answers = [in_bytes, until_the_end, *(reply(body) for body in ends)]
    async with served(reply(GOOD), *answers) as (_, port), wired(port) as client:
        for _ in answers:
            assert await asked(client) == "Hello \u2713"


@pytest.mark.anyio
async def test_an_answer_that_is_given_up_closes_its_connection() -> None:
    async def endless(_: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            body = piece("on and on")
            writer.write(b"%x\r\n%b\r\n" % (len(body), body))
            await writer.drain()

    async with served(reply(GOOD), endless, endless) as (server, port), wired(port) as client:
        source = Source(client.chat.completions.create)
        server.ended.clear()
        async with source.stream(ASKED) as chunks:
            async for _ in chunks:
                break
        await server.ended.wait()
        assert source.response.status_code == 200

        server.ended.clear()
        reading = asyncio.create_task(asked(client))
        while len(server.requests) < 3:
            await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        del reading


@pytest.mark.anyio
async def test_a_reader_that_takes_its_time_holds_the_server_up() -> None:
    size = 32 * 1024 * 1024
    written = 0

    async def much(_: Any, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        while written < size:
            writer.write(b"x" * 65_536)
            written += 65_536
            await writer.drain()

    async with served(much) as (_, port):
        wire = ModelWire(ssl.create_default_context())
        answer = await wire.ask(request_to(port), b"")
        before = -1
        while written != before:  # it goes no further
            before = written
            await asyncio.sleep(0.05)
        assert written < size / 2
        read = 0
        while data := await answer.read():
            read += len(data)
            assert len(data) < 1024 * 1024
        answer.close()
        assert read == size
        await wire.aclose()


def request_to(
    port: int, *, is_tls: bool = False, read_s: float | None = 30, host: str = "127.0.0.1"
) -> WireRequest:
    url = f"{'https' if is_tls else 'http'}://{host}:{port}/"
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=read_s)
    return WireRequest("POST", URL(url), CIMultiDict({"Content-Length": "0"}), timeout)


@pytest.mark.anyio
async def test_what_is_no_answer_is_told_as_what_it_is() -> None:
    async def silent(reader: asyncio.StreamReader, _: Any) -> None:
        await reader.read()

    async def hangs_up(_: Any, writer: asyncio.StreamWriter) -> None:
        writer.close()

    kinds: list[tuple[bytes | Serve, str]] = [
        (silent, "read_timeout"),
        (hangs_up, "protocol"),
        (b"SSH-2.0-who\r\n", "protocol"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000, "protocol"),
    ]
    wire = ModelWire(ssl.create_default_context())
    async with served(*(answer for answer, _ in kinds)) as (_, port):
        for _, kind in kinds:
            with pytest.raises(WireError) as caught:
                await wire.ask(request_to(port, read_s=0.1 if kind == "read_timeout" else 30), b"")
            assert caught.value.kind == kind
    with pytest.raises(WireError) as caught:
        await wire.ask(request_to(port), b"")
    assert caught.value.kind == "connect"
    await wire.aclose()


@pytest.mark.anyio
async def test_what_the_http_library_does_with_an_answer_it_still_does(over_wire: list[WireRequest]) -> None:
    elsewhere = reply(b"", b"location: /v1/there", status=b"307 Temporary Redirect")
    packed = reply(gzip.compress(GOOD), b"content-encoding: gzip")
    answers = [elsewhere, elsewhere, reply(GOOD), packed, reply(GOOD, b"set-cookie: seen=yes"), reply(GOOD)]
    async with served(reply(GOOD), *answers) as (server, port), wired(port) as client:
        needs_bytes(client)
        for count in (1, 2, 3, 4):
            assert await asked(client) == "Hello \u2713"
            assert len(over_wire) == count
        assert server.requests[3].startswith(b"POST /v1/there ")
        assert b"seen=yes" not in server.requests[5]
        assert b"cookie: seen=yes" in server.requests[6].lower()


@pytest.mark.anyio
async def test_what_somebody_sees_or_changes_in_the_http_library_does_not_go_past_it(
    over_wire: list[WireRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    async def see(request: Any) -> None:
        seen.append(request)

    async def send(self: Any, *args: Any, **more: Any) -> Any:
        seen.append(args)
        return await plain_send(self, *args, **more)

    async with served(*[reply(GOOD)] * 8) as (_, port), wired(port) as client:
        http = client._client
        library = type(http).__mro__[-3].__module__.partition(".")[0]
        http.event_hooks = {"request": [see]}
        assert await asked(client) == "Hello \u2713"
        http.event_hooks = {}
        plain_send = type(http).send
        with monkeypatch.context() as patched:
            patched.setattr(next(kind for kind in type(http).__mro__ if "send" in vars(kind)), "send", send)
            assert await asked(client) == "Hello \u2713"
        assert len(seen) == 2
        log = logging.getLogger(library)
        log.setLevel(logging.INFO)
        try:
            assert await asked(client) == "Hello \u2713"
        finally:
            log.setLevel(logging.NOTSET)
        assert not over_wire
        needs_bytes(client)
        assert await asked(client) == "Hello \u2713"
        assert len(over_wire) == 1
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{port}")
        async with wired(port, base_url="http://a-model.invalid/v1") as other:  # the server is its proxy
            assert await asked(other) == "Hello \u2713"
        assert len(over_wire) == 1


@pytest.mark.anyio
async def test_a_server_is_asked_over_tls_by_its_name_alone(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not there, which makes a certificate: apt-get install openssl")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    more = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command, *more, *files], check=True, capture_output=True, stdin=subprocess.DEVNULL)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(certificate, key)
    trusting = ssl.create_default_context(cafile=str(certificate))
    async with served(*[chunked(b"a", b"b")] * 3, context=serving) as (server, port):
        wire = ModelWire(trusting)
        for _ in range(2):
            answer = await wire.ask(request_to(port, is_tls=True, host="localhost"), b"")
            assert await answer.read() + await answer.read() in (b"ab", b"a", b"b")
            while await answer.read():
                pass
            answer.close()
        assert server.connections == 1
        for host, context in (("127.0.0.1", trusting), ("localhost", ssl.create_default_context())):
            refusing = ModelWire(context)
            with pytest.raises(WireError) as caught:
                await refusing.ask(request_to(port, is_tls=True, host=host), b"")
            assert caught.value.kind == "connect"
            assert "certificate" in str(caught.value)
            await refusing.aclose()
        await wire.aclose()


def open_files() -> list[str]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # of the list itself
            found.append(os.readlink(f"/proc/self/fd/{name}"))
    return sorted(found)


@pytest.mark.anyio
async def test_nothing_stays_open_of_many_requests_of_which_half_are_given_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def waits(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        body = piece("and then")
        writer.write(b"%x\r\n%b\r\n" % (len(body), body))
        await reader.read()

    async def given_up(client: Any) -> None:
        stream = await quick_stream(client.chat.completions.create, ASKED)
        try:
            async for _ in stream:
                begun.release()
        finally:
            await stream.close()

    asyncio.get_running_loop().set_debug(True)
    files = open_files()
    begun = asyncio.Semaphore(0)
    async with served(*[reply(GOOD)] * 2, *[waits, reply(GOOD)] * 100) as (server, port):
        async with wired(port) as client:
            assert await asked(client) == "Hello \u2713"
            for _ in range(100):
                reading = asyncio.create_task(given_up(client))
                await begun.acquire()
                reading.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await reading
                assert await asked(client) == "Hello \u2713"
            del reading
        assert not server.answers
        while server.open:
            await server.closed.wait()
            server.closed.clear()
    gc.collect()
    assert not Counter(open_files()) - Counter(files)  # fewer there may be: other tests have left some
    assert "Unclosed" not in caplog.text


@pytest.mark.anyio
async def test_a_large_body_goes_out_whole(over_wire: list[WireRequest]) -> None:
    async with served(reply(GOOD), reply(GOOD)) as (server, port), wired(port) as client:
        needs_bytes(client)
        text = "Hi \u2713" * 1_000_000
        asking = {**ASKED, "messages": [{"role": "user", "content": text}]}
        stream = await quick_stream(client.chat.completions.create, asking)
        await stream.close()
        assert json.loads(server.requests[1].partition(b"\r\n\r\n")[2])["messages"][0]["content"] == text
        assert len(over_wire) == 1


def test_each_event_loop_has_connections_of_its_own() -> None:
    wire = ModelWire(ssl.create_default_context())

    async def once(*, close: bool) -> None:
        async with served(reply(b"a")) as (_, port):
            answer = await wire.ask(request_to(port), b"")
            assert await answer.read() == b"a"
            answer.close()
            if close:
                await wire.aclose()

    for close in (False, True):
        asyncio.run(once(close=close))
    gc.collect()

"""Streamed requests past the SDK's machinery: the same bytes, the same errors, and the SDK itself wherever it is not as
it came. Also run with the oldest and the newest SDK (`tests/openai-facade/surface`)."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import openai
import pytest
from agentd_model_openai import quick_chat
from agentd_model_openai.quick_chat import is_chat_method, quick_stream
from agentd_model_openai.quick_chunks import QuickChunks
from agentd_model_openai.tls import http_settings
from agentd_model_openai.wire import ModelWire
from openai.types.chat import ChatCompletionChunk

CALL = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}
USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
ASKED: dict[str, Any] = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "Be brief — s'il vous plaît."},
        {"role": "user", "content": [{"type": "text", "text": 'a "quoted"\n line'}], "own": None},
    ],
    "stream": True,
}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=[False, True], ids=["http", "wire"])
def wired(request: pytest.FixtureRequest) -> Any:
    """Whether the client has a wire."""
    return request.param


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
    data = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps({**data, **more}).encode() + b"\n\n"


def reply(
    body: bytes, status: str = "200 OK", *headers: str, kind: str = "text/event-stream", missing: int = 0
) -> bytes:
    told = [f"HTTP/1.1 {status}", f"content-type: {kind}", f"content-length: {len(body) + missing}", *headers]
    return "\r\n".join([*told, "", ""]).encode() + body


def failure(status: str, *headers: str, message: str = "so it is") -> bytes:
    body = {"error": {"message": message, "type": "t", "code": "c", "param": None}}
    return reply(json.dumps(body).encode(), status, *headers, kind="application/json")


GOOD = reply(
    chunk({"role": "assistant", "content": "Hel"})
    + chunk({"content": "lo ✓"})
    + chunk({}, "stop", usage=USAGE)
    + b"data: [DONE]\n\n"
)


class Server:
    """Answers requests with what is next, and keeps them as they came. An empty answer: it hangs up; None: nothing."""

    def __init__(self) -> None:
        self.answers: list[bytes | None] = []
        self.requests: list[bytes] = []

    async def __aenter__(self) -> Server:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: Any) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(x for x in head.lower().split(b"\r\n") if x.startswith(b"content-length:"))
                self.requests.append(head + await reader.readexactly(int(length.partition(b":")[2])))
                answer = self.answers.pop(0)
                if answer is None:
                    await reader.read()
                writer.write(answer or b"")
                if not answer or b"hang-up" in answer:
                    return
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    def client(self, *, wired: bool = False, **more: Any) -> openai.AsyncOpenAI:
        if wired:
            more |= http_settings(openai, is_async=True, wired=True)
        settings = {"api_key": "k", "base_url": f"http://127.0.0.1:{self.port}/v1", "max_retries": 0, **more}
        return openai.AsyncOpenAI(**settings)


Ask = Callable[..., Awaitable[Any]]


async def told(asking: Awaitable[Any]) -> list[Any]:
    """Return what comes of a request: the chunks, and the error."""
    found: list[Any] = []
    try:
        stream = await asking
        found.append(str(stream.response.status_code))
        async for item in stream:  # those before an error count
            found.append(item.to_dict())  # noqa: PERF401
    except Exception as error:
        names = ("status_code", "body", "code", "param", "type", "message")
        found.append((type(error), str(error), type(error.__cause__)))
        found.append({name: getattr(error, name, None) for name in names})
        found.append(str(getattr(getattr(error, "request", None), "url", None)))
    return found


async def both(
    server: Server, monkeypatch: pytest.MonkeyPatch, *answers: bytes | None, client: Any, **asked: Any
) -> tuple[list[Any], list[Any]]:
    """Return what comes of a request by the SDK and past it: what is told, and what the server got.

    A client with a wire is asked past the SDK over that."""
    asked = {**ASKED, **asked}
    create = client.chat.completions.create
    server.answers[:] = [GOOD]
    await told(quick_stream(create, asked))  # of which it learns how
    (form,) = quick_chat._forms[client].values()
    over_wire = []
    found = []

    async def ask(self: ModelWire, request: Any, body: bytes) -> Any:
        over_wire.append(request)
        return await wire_ask(self, request, body)

    wire_ask = ModelWire.ask
    for way in (lambda: create(**asked), lambda: quick_stream(create, asked)):
        server.answers[:], server.requests[:] = answers or [GOOD], []
        with monkeypatch.context() as patched:
            if found:
                patched.setattr(quick_chat, "_watched", None)  # it knows how
                patched.setattr(ModelWire, "ask", ask)
            found.append([await told(way()), list(server.requests)])
    # Older SDKs leave it to their HTTP library to write the body.
    assert bool(over_wire) == (hasattr(client._client, "wire") and not form.is_json)
    await client.close()
    return found[0], found[1]


@pytest.mark.anyio
async def test_a_request_past_the_sdk_is_the_sdk_s_byte_by_byte(
    wired: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds: list[dict[str, Any]] = [
        {},
        {"metadata": {"a": "b"}, "temperature": 0, "stop": None, "stream_options": {"include_usage": True}},
        {"tools": TOOLS, "tool_choice": "auto", "n": 1, "user": "u", "top_p": 1.0, "max_tokens": 3},
        {"extra_body": {"top_k": 3, "model": "other"}, "seed": 1},
        {"timeout": 7},
    ]
    async with Server() as server:
        for asked in kinds:
            theirs, ours = await both(server, monkeypatch, client=server.client(wired=wired), **asked)
            assert ours == theirs
            assert len(ours[1]) == 1
            assert [item["choices"][0]["delta"].get("content") for item in ours[0][1:]] == [
                "Hel",
                "lo ✓",
                None,
            ]
        more: dict[str, Any] = {
            "organization": "o", "project": "p", "timeout": 3.5, "max_retries": 1,
            "default_headers": {"X-Own": "1"}, "default_query": {"api-version": "2", "x": 1},
        }  # fmt: skip
        theirs, ours = await both(server, monkeypatch, client=server.client(wired=wired, **more))
        assert ours == theirs
        assert b"api-version=2" in ours[1][0]
        assert b"x-own: 1" in ours[1][0].lower()


BAD: dict[str, list[bytes | None]] = {
    "unknown key": [failure("401 Unauthorized", message="Incorrect API key")],
    "no JSON": [reply(b"<h1>gone</h1>", "404 Not Found", kind="text/html")],
    "a limit, then an answer": [failure("429 Too Many", "retry-after-ms: 1"), GOOD],
    "a limit, thrice": [failure("429 Too Many", "retry-after: 0.001")] * 3,
    "it says no": [failure("500 Oh", "x-should-retry: false")],
    "failures": [failure("500 Oh", "retry-after-ms: 1"), failure("503 Oh", "retry-after-ms: 1"), GOOD],
    "malformed": [reply(chunk({"content": "a"}) + b"data: {oops\n\n")],
    "cut": [reply(chunk({"content": "a"}), "200 OK", "x-is: hang-up", missing=9)],
    "no end": [reply(chunk({"content": "a"}))],
    "an error within": [
        reply(chunk({"content": "a"}) + b'data: {"error": {"message": "full", "code": "x"}}\n\n')
    ],
    "a page": [reply(b"<h1>Hello</h1>", kind="text/html")],
    "silent": [None] * 3,
    "silent, then an answer": [None, GOOD],
    "hangs up": [b"", b"", b""],
}


@pytest.mark.anyio
@pytest.mark.parametrize("kind", BAD)
async def test_a_bad_answer_is_told_and_asked_for_again_as_the_sdk_does_it(
    kind: str, wired: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []

    async def sleep(self: Any, *args: Any, **more: Any) -> None:
        slept.append(more["retries_taken"])

    async with Server() as server:
        client = server.client(wired=wired, max_retries=2, timeout=0.3 if "silent" in kind else 60)
        if not any(answer and b"retry-after" in answer for answer in BAD[kind]):
            # How long it waits is the SDK's own; that it waits is seen.
            monkeypatch.setattr(
                quick_chat, "_HOOKS", tuple(h for h in quick_chat._HOOKS if h != "_sleep_for_retry")
            )
            monkeypatch.setattr(openai.AsyncOpenAI, "_sleep_for_retry", sleep)
        theirs, ours = await both(server, monkeypatch, *BAD[kind], client=client)
    assert ours == theirs
    assert slept[: len(slept) // 2] == slept[len(slept) // 2 :]
    counts = [r.lower().partition(b"x-stainless-retry-count: ")[2][:1] for r in ours[1]]
    assert counts == [b"%d" % n for n in range(len(BAD[kind]))]


@pytest.mark.anyio
async def test_what_a_client_has_become_since_is_sent_too(wired: bool) -> None:
    async with Server() as server:
        client = server.client(wired=wired)
        create = client.chat.completions.create
        changes: list[Callable[[], Any]] = [
            lambda: setattr(client, "api_key", "another"),
            lambda: client._custom_headers.update({"X-Own": "1"}),  # type: ignore[attr-defined]
            lambda: setattr(client, "timeout", openai.Timeout(9.0)),
            lambda: setattr(client.timeout, "read", 8.0),
            lambda: client._client.cookies.set("a", "b"),
            lambda: client._client.headers.update({"X-Http": "2"}),
        ]
        for change in changes:
            server.answers[:], server.requests[:] = [GOOD] * 3, []
            await told(quick_stream(create, ASKED))
            change()
            await told(create(**ASKED))
            await told(quick_stream(create, ASKED))
            assert server.requests[1] == server.requests[2] != server.requests[0]
        await client.close()


class Subclass(openai.AsyncOpenAI):
    """As somebody may have it."""


async def key() -> str:
    return "k"


@pytest.mark.anyio
async def test_what_is_not_as_the_sdk_came_is_asked_through_the_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> Any:
        raise AssertionError("it went past the SDK")

    class OwnHttp(openai.DefaultAsyncHttpxClient):
        """Who knows what it does."""

    async def post(*args: Any, **more: Any) -> Any:
        seen.append("post")
        return await client_post(*args, **more)

    async def options(self: Any, given: Any) -> Any:
        seen.append("options")
        return given

    monkeypatch.setattr(quick_chat, "QuickChunks", never)
    seen: list[str] = []
    async with Server() as server:
        url = f"http://127.0.0.1:{server.port}"
        azure = openai.AsyncAzureOpenAI(api_key="k", azure_endpoint=url, api_version="1")
        patched, plain = server.client(), server.client()
        client_post = patched.post
        monkeypatch.setattr(patched, "post", post)
        others: list[tuple[Any, dict[str, Any]]] = [
            (azure, {}),
            (Subclass(api_key="k", base_url=url), {}),
            (server.client(api_key=key), {}),
            (server.client(http_client=OwnHttp()), {}),
            (server.client(_strict_response_validation=True), {}),
            (patched, {}),
            (plain, {"extra_headers": {"a": "b"}}),
            (plain, {"extra_query": {"a": "b"}}),
            (plain, {"timeout": openai.Timeout(3)}),
        ]
        for client, more in others:
            for _ in range(2):
                server.answers.append(GOOD)
                items = await told(quick_stream(client.chat.completions.create, {**ASKED, **more}))
                assert len(items) == 4, items
        assert seen  # as the resource has it: it was made after the patch
        with monkeypatch.context() as patching:
            patching.setattr(openai.AsyncOpenAI, "_prepare_options", options)
            server.answers += [GOOD]
            await told(quick_stream(plain.chat.completions.create, ASKED))
            assert seen[-1] == "options"
        logging.getLogger("openai._base_client").setLevel(logging.DEBUG)
        try:
            for _ in range(2):
                server.answers.append(GOOD)
                await told(quick_stream(plain.chat.completions.create, ASKED))
        finally:
            logging.getLogger("openai._base_client").setLevel(logging.NOTSET)
        for client in {id(c): c for c, _ in others}.values():
            await client.close()
    assert not server.answers


def test_only_the_sdk_s_own_async_chat_method_is_known() -> None:
    client = openai.AsyncOpenAI(api_key="k")
    assert is_chat_method(client.chat.completions.create)
    assert not is_chat_method(client.chat.completions.parse)
    assert not is_chat_method(client.responses.create)
    assert not is_chat_method(openai.OpenAI(api_key="k").chat.completions.create)


@pytest.mark.parametrize("delta", [{"content": "a"}, {"role": "assistant", "content": "", "refusal": None}, {},
                                   {"reasoning_content": "t"}, {"tool_calls": [CALL]}, {"content": ["a"]}])  # fmt: skip
@pytest.mark.parametrize(
    "more", [{}, {"usage": USAGE}, {"usage": None, "system_fingerprint": "f"}, {"x": [1]}]
)
def test_a_chunk_that_is_made_fast_is_the_one_that_the_sdk_makes(delta: Any, more: Any) -> None:
    data = json.loads(chunk(delta, **more)[6:])
    client: Any = openai.AsyncOpenAI(api_key="none")
    made, known = (
        one._process_response_data(data=data, cast_to=ChatCompletionChunk, response=None)
        for one in (QuickChunks(client), client)
    )
    assert made == known
    assert type(made.choices[0].delta) is type(known.choices[0].delta)
    assert made.model_fields_set == known.model_fields_set
    assert made.choices[0].delta.model_extra == known.choices[0].delta.model_extra
    assert made.to_json(warnings=False) == known.to_json(warnings=False)

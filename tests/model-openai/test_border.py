"""What a server sends, whatever it is, comes in as valid text or as one clear error."""

from __future__ import annotations

import gzip
import itertools
import json
import math
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest
from agentd.errors import ModelStreamError
from agentd.protocols import ModelText, ModelToolCall, ToolOffer, ToolResult
from agentd.text import valid_text
from agentd_model_openai.chat import ChatModel
from agentd_model_openai.chat_calls import MOST_CHARS, text_of
from agentd_model_openai.line_limit import MOST_BYTES
from agentd_model_openai.pieces import TextJoiner
from agentd_model_openai.responses import ResponsesModel
from agentd_model_openai.usage import chat_usage
from agentd_model_openai.whole_events import MOST_ITEMS
from hypothesis import given, strategies as st
from openai import AsyncOpenAI, OpenAI

pytestmark = pytest.mark.anyio


class Server(ThreadingHTTPServer):
    """Answers each request with the next body of its script, as it is."""

    daemon_threads = True

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.headers: dict[str, str] = {}
        self.requests: list[Any] = []
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients hang up here."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append(json.loads(data.decode("utf-8", "strict")))
        body = self.server.bodies.pop(0)
        self.send_response(200)
        for name, value in {"Content-Type": "text/event-stream", **self.server.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture(params=[OpenAI, AsyncOpenAI])
def client(request: pytest.FixtureRequest, server: Server, anyio_backend: str) -> Any:
    if request.param is AsyncOpenAI and anyio_backend == "trio":
        pytest.skip(
            "the SDK's async streams leave generators open, which trio complains about: use OpenAI there"
        )
    return request.param(api_key="k", base_url=server.url, max_retries=0)


def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
    data = {
        "id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }  # fmt: skip
    return b"data: " + json.dumps(data).encode() + b"\n\n"  # a lone surrogate is an escape here


def chat(*deltas: dict[str, Any]) -> bytes:
    return b"".join(map(chunk, deltas)) + chunk({}, "stop") + b"data: [DONE]\n\n"


async def events(model: Any) -> list[Any]:
    async with model.stream() as stream:
        return [event async for event in stream]


def said(found: list[Any]) -> str:
    return "".join(event.text for event in found if isinstance(event, ModelText))


async def test_a_character_cut_in_two_is_whole_and_half_a_one_is_replaced(
    server: Server, client: Any
) -> None:
    server.bodies = [
        chat({"content": "a\ud83d"}, {"content": "\ude00b"}, {"content": "\ud83d"}, {"content": "c\ude00"}),
        chat({"content": "x\ud83d"}),
        chat({"content": "done"}),
    ]
    model = ChatModel("m", client=client)
    model.start("s\ud83d")
    model.add_task("t\udcff")
    found = await events(model)
    assert said(found) == "a😀b\ufffdc\ufffd"
    raw = [event.raw.choices[0].delta.content or "" for event in found if isinstance(event, ModelText)]
    assert "".join(raw) == said(found)  # what a patched client's caller reads is the same
    model.add_answer(said(found))
    model.add_results("r\ude00")
    assert said(await events(model)) == "x\ufffd"
    model.add_answer("y\ud83d")
    await events(model)
    texts = [message["content"] for message in server.requests[-1]["messages"]]
    assert texts == ["s\ufffd", "t\ufffd", "a😀b\ufffdc\ufffd", "r\ufffd", "y\ufffd"]


async def test_calls_with_such_text_can_be_answered(server: Server, client: Any) -> None:
    call = {
        "index": 0,
        "id": "1",
        "type": "function",
        "function": {"name": "say", "arguments": '{"t": "\ud83d'},
    }
    rest = {"index": 0, "function": {"arguments": '\ude00\ud83d"}'}}
    server.bodies = [
        chat({"tool_calls": [call], "reasoning_content": "h\ud83d"}, {"tool_calls": [rest]}),
        chat({}),
    ]
    model = ChatModel("m", client=client)
    model.offer(
        [ToolOffer(name="say", description="d\ud83d", parameters={"type": "object", "title": "\ude00"})]
    )
    found = await events(model)
    (made,) = [event for event in found if isinstance(event, ModelToolCall)]
    assert json.loads(made.arguments) == {"t": "😀\ufffd"}
    model.add_answer("", [made])
    model.add_tool_results([ToolResult(call_id="1", output="o\ud83d")])
    await events(model)
    assistant, result = server.requests[-1]["messages"]
    assert assistant["tool_calls"][0]["function"]["arguments"] == '{"t": "😀\ufffd"}'
    assert assistant["reasoning_content"] == "h\ufffd"
    assert result["content"] == "o\ufffd"


async def test_responses_are_read_in_the_same_way(server: Server, client: Any) -> None:
    text = {"type": "output_text", "text": "a😀\ud83d", "annotations": []}
    item = {"type": "message", "id": "i", "role": "assistant", "status": "completed", "content": [text]}
    whole = {"id": "r", "object": "response", "status": "completed", "output": [item]}
    parts = [
        *(
            {"type": "response.output_text.delta", "delta": d, "item_id": "i"}
            for d in ("a\ud83d", "\ude00\ud83d")
        ),
        {"type": "response.output_item.done", "item": item},
        {"type": "response.completed", "response": whole},
    ]
    body = b"".join(b"data: " + json.dumps(part).encode() + b"\n\n" for part in parts)
    server.bodies = [body, body]
    model = ResponsesModel("m", client=client)
    model.add_task("t\ud83d")
    found = await events(model)
    assert said(found) == "a😀"
    model.add_answer(said(found))
    model.add_results("r\ud83d")
    await events(model)
    assert "\\ud83d" not in json.dumps(server.requests[-1], ensure_ascii=False)
    assert server.requests[-1]["input"][-1]["content"] == "r\ufffd"


async def test_the_text_of_parts_is_read_and_anything_else_is_a_clear_error(
    server: Server, client: Any
) -> None:
    parts = [
        {"type": "thinking", "thinking": []},
        {"type": "text", "text": "a"},
        {"text": "b"},
        "c",
        {"type": "text"},
    ]
    server.bodies = [
        chat({"content": parts}, {"content": []}),
        chat({"content": 7}),
        chat({"content": {"a": 1}}),
    ]
    model = ChatModel("m", client=client)
    assert said(await events(model)) == "abc"
    for _ in range(2):
        with pytest.raises(ModelStreamError, match="the content is neither text nor a list of parts but"):
            await events(model)


def test_reasoning_in_parts_of_parts_without_end_is_read_to_the_second() -> None:
    from agentd_model_openai.reasoning import chat_reasoning

    inner: Any = "deep"
    for _ in range(2000):
        inner = [{"type": "thinking", "text": inner, "thinking": inner}]
    parts = [
        {"type": "thinking", "thinking": [{"text": "a"}, {"text": inner}]},
        {"type": "thinking", "thinking": "b"},
    ]
    assert chat_reasoning(SimpleNamespace(content=parts)) == "ab"


@pytest.mark.parametrize("packed", [False, True])
async def test_an_event_without_end_is_an_error_before_it_is_in_memory(
    server: Server, client: Any, packed: bool
) -> None:
    body = chunk({"content": "a"}) + b"data: " + b"x" * (MOST_BYTES + (1 << 20)) + b"\n\n"
    server.bodies = [gzip.compress(body) if packed else body]
    server.headers = {"Content-Encoding": "gzip"} if packed else {}
    with pytest.raises(ModelStreamError, match="a line of the stream is longer than 16 MiB"):
        await events(ChatModel("m", client=client))


@pytest.mark.parametrize("name", ["reasoning_content", "tool_calls"])
async def test_calls_and_reasoning_without_end_are_an_error_before_they_fill_the_memory(
    server: Server, client: Any, name: str
) -> None:
    piece: Any = "x" * (MOST_CHARS // 4)
    if name == "tool_calls":
        piece = [{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": piece}}]
    server.bodies = [chat(*[{name: piece}] * 5)]
    with pytest.raises(ModelStreamError, match="more than 16,777,216 characters of calls and reasoning"):
        await events(ChatModel("m", client=client))


@pytest.mark.parametrize(
    ("size", "count", "message"),
    [
        (MOST_CHARS // 4, 5, "more than 16,777,216 characters of calls and reasoning"),
        (1, MOST_ITEMS + 1, "more than 10,000 items"),
    ],
)
async def test_items_without_end_are_an_error_before_they_fill_the_memory(
    server: Server, client: Any, size: int, count: int, message: str
) -> None:
    summary = [{"type": "summary_text", "text": "x" * size}]
    parts = (
        {
            "type": "response.output_item.done",
            "output_index": number,
            "sequence_number": number,
            "item": {"type": "reasoning", "id": f"rs_{number}", "summary": summary},
        }
        for number in range(count)
    )
    server.bodies = [b"".join(b"data: " + json.dumps(part).encode() + b"\n\n" for part in parts)]
    with pytest.raises(ModelStreamError, match=message):
        await events(ResponsesModel("m", client=client))


async def test_a_stream_without_end_is_an_error(
    server: Server, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentd_model_openai.line_limit.MOST_STREAM_BYTES", 4 << 20)
    server.bodies = [chat(*[{"content": "x" * 1000}] * 5000)]
    with pytest.raises(ModelStreamError, match="the stream of one answer is longer than 4 MiB"):
        await events(ChatModel("m", client=client))


async def test_many_large_events_pass(server: Server, client: Any) -> None:
    text = "x" * (MOST_BYTES // 4)
    server.bodies = [chat(*[{"content": text}] * 6)]
    assert len(said(await events(ChatModel("m", client=client)))) == 6 * len(text)


@given(
    st.recursive(st.none() | st.integers() | st.text(), lambda i: st.lists(i) | st.dictionaries(st.text(), i))
)
def test_whatever_stands_for_text_is_text_or_an_error_of_ours(content: object) -> None:
    try:
        assert isinstance(text_of(content), str)
    except ValueError:
        assert not isinstance(content, str | list | None)


@given(st.text(st.characters() | st.characters(categories=["Cs"])), st.lists(st.integers(0, 100)))
def test_pieces_give_what_the_whole_gives(text: str, cuts: list[int]) -> None:
    joiner = TextJoiner()
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [joiner.feed(text[a:b]) for a, b in itertools.pairwise(places)]
    assert "".join([*pieces, joiner.close()]) == valid_text(text)
    for piece in pieces:
        piece.encode()


@pytest.mark.parametrize("reason", [["stop"], 7, {"a": 1}])
async def test_a_finish_reason_of_another_type_is_an_end(server: Server, client: Any, reason: Any) -> None:
    body = chunk({"content": "a"}) + chunk({}, reason) + b"data: [DONE]\n\n"
    server.bodies = [body]
    assert said(await events(ChatModel("m", client=client))) == "a"


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"prompt_tokens": "3", "completion_tokens": 2}, (0, 2)),
        ({"prompt_tokens": math.nan, "completion_tokens": -5}, (0, 0)),
        ("many", (0, 0)),
        ([1], (0, 0)),
    ],
)
def test_what_is_no_number_of_tokens_counts_nothing(usage: Any, tokens: tuple[int, int]) -> None:
    given = SimpleNamespace(**usage) if isinstance(usage, dict) else usage
    counted = chat_usage(given)
    assert (counted.input_tokens, counted.output_tokens) == tokens

"""Each wire format against an independent server: rounds of code, usage, tool calls, embeddings."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import openai
import pytest
from agentd.session.session import Session
from agentd_model_litellm.litellm import create_chat, create_response
from agentd_model_openai.chat import ChatModel
from agentd_model_openai.responses import ResponsesModel
from agentd_model_openai.routing import PROVIDERS
from formats import ANSWER, BLOCK, FORMATS, Format, ask
from llm_server import LlmServer, Relay
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response

# LiteLLM reads attributes of pydantic's that are on their way out
pytestmark = pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning")
ROUNDS = ({"type": "reply", "text": BLOCK}, {"type": "reply", "text": ANSWER})
THROUGH_LITELLM = [f for f in FORMATS if not f.own and f.api == "chat"]


def names(formats: list[Format]) -> Any:
    return pytest.mark.parametrize("fmt", formats, ids=[f.name for f in formats])


@names(FORMATS)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_two_rounds_with_a_block_that_runs(
    fmt: Format, stream: bool, server: LlmServer, relay: Relay, patched: Any
) -> None:
    server.script(*ROUNDS)
    client = patched(relay.url + fmt.path if fmt.own else None)
    told = ask(fmt, client, relay.url, stream=stream)
    assert told.error is None
    assert ANSWER in told.text
    assert len(relay.bodies) == 2
    assert "You act by writing code" in json.dumps(relay.bodies[0])
    assert "42" in json.dumps(relay.bodies[1]).rpartition("tee -a ran")[2]
    if not stream:
        assert type(told.whole) is (Response if fmt.api == "responses" else ChatCompletion)
        assert told.whole.agentd["executions"][0]["output"] == "42\n"
        assert told.whole.usage.total_tokens > 10
    elif fmt.api == "chat":
        assert {type(i) for i in told.items} == {ChatCompletionChunk}
    else:
        assert told.items[-1].type == "response.completed"
        assert told.items[-1].response.usage.output_tokens > 1


@pytest.mark.anyio
@names(FORMATS)
async def test_a_session_runs_the_code_and_counts_the_tokens(
    fmt: Format, server: LlmServer, relay: Relay, tmp_path: Path
) -> None:
    server.script(*ROUNDS)
    async with Session(fmt.model, cwd=tmp_path, tools=[], **fmt.session(relay.url)) as session:
        end = await session.ask("go")
    assert (end.stop_reason, end.text, end.turns) == ("answer", ANSWER, 2)
    assert end.usage.requests == 2
    assert end.usage.input_tokens > 200  # the instructions
    assert end.usage.output_tokens >= len(BLOCK + ANSWER) // 5
    assert (tmp_path / "ran").read_text() == "42\n"


TOOL = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Look.",
        "parameters": {"type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"]},
    },
}
CALL = {"type": "reply", "tool_calls": [{"name": "look", "arguments": {"at": "that"}}]}


@names(THROUGH_LITELLM)
def test_tool_calls_have_the_sdks_shape_and_their_results_are_understood(
    fmt: Format, server: LlmServer, relay: Relay
) -> None:
    server.script(CALL, {"type": "reply", "text": ANSWER})
    given = {**fmt.call(relay.url), "tools": [TOOL]}
    answer = create_chat(**given)
    assert answer.choices[0].finish_reason == "tool_calls"
    message = answer.choices[0].message
    call = message.tool_calls[0]
    assert (call.type, call.function.name, json.loads(call.function.arguments)) == (
        "function",
        "look",
        {"at": "that"},
    )
    given["messages"] += [message.to_dict(), {"role": "tool", "tool_call_id": call.id, "content": "SEEN"}]
    assert create_chat(**given).choices[0].message.content == ANSWER
    assert "SEEN" in json.dumps(relay.bodies[1])


@names(THROUGH_LITELLM)
def test_streamed_tool_calls_can_be_put_together(fmt: Format, server: LlmServer, relay: Relay) -> None:
    server.script(CALL)
    chunks = list(create_chat(**fmt.call(relay.url), tools=[TOOL], stream=True))
    pieces = [c.choices[0].delta.tool_calls[0] for c in chunks if c.choices and c.choices[0].delta.tool_calls]
    assert [p.function.name for p in pieces if p.function.name] == ["look"]
    assert pieces[0].id
    assert json.loads("".join(p.function.arguments or "" for p in pieces)) == {"at": "that"}
    ends = [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason]
    assert ends == ["tool_calls"]


@names([f for f in FORMATS if not f.own and f.api == "responses"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_tool_calls_of_responses_are_function_call_items(
    fmt: Format, stream: bool, server: LlmServer, relay: Relay
) -> None:
    server.script(CALL)
    given = {**fmt.call(relay.url), "tools": [{"type": "function", **TOOL["function"]}]}  # type: ignore[dict-item]
    if stream:
        events = list(create_response(**given, stream=True))
        assert events[-1].type == "response.completed"
        items = [e.item for e in events if e.type == "response.output_item.done"]
    else:
        items = create_response(**given).output
    calls = [i for i in items if i.type == "function_call"]
    assert [(c.name, json.loads(c.arguments)) for c in calls] == [("look", {"at": "that"})]
    assert calls[0].call_id


def test_embeddings_of_a_compatible_server(server: LlmServer, relay: Relay, patched: Any) -> None:
    given = {"input": ["one", "two"], "api_base": f"{relay.url}/v1", "api_key": "k"}
    answer = patched(None).embeddings.create(model="litellm_proxy/text-embedding-3-small", **given)
    assert [len(e.embedding) for e in answer.data] == [1536, 1536]
    assert relay.bodies[0]["input"] == ["one", "two"]


def test_a_bare_claude_name_goes_where_the_client_points(
    server: LlmServer, relay: Relay, patched: Any
) -> None:
    server.script({"type": "reply", "text": ANSWER})
    answer = patched(f"{relay.url}/v1").chat.completions.create(
        model="claude-x", messages=[{"role": "user", "content": "go"}]
    )
    assert answer.choices[0].message.content == ANSWER
    [request] = server.ask("/_llmock/requests")["requests"]
    assert request["path"] == "/v1/chat/completions"


@pytest.mark.parametrize("cls", [openai.OpenAI])
def test_a_bare_claude_name_at_openais_own_address_goes_to_anthropic(
    cls: Any, server: LlmServer, relay: Relay, patched: Any
) -> None:
    server.script({"type": "reply", "text": ANSWER})
    answer = patched(None, cls).chat.completions.create(
        model="claude-x",
        messages=[{"role": "user", "content": "go"}],
        api_base=f"{relay.url}/anthropic",
        api_key="k",
    )
    assert answer.choices[0].message.content == ANSWER
    [request] = server.ask("/_llmock/requests")["requests"]
    assert request["path"] == "/anthropic/v1/messages"


class Canned:
    """A server with one answer."""

    def __init__(self, kind: str, body: bytes) -> None:
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: Any) -> None:
                pass

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> Canned:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


def events(*chunks: dict[str, Any]) -> bytes:
    # as real servers write them: what is no ASCII stands in the text as it is
    return b"".join(b"data: %s\n\n" % json.dumps(c, ensure_ascii=False).encode() for c in chunks)


def test_reasoning_stays_beside_the_text() -> None:
    def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "r", "choices": [choice]}

    stream = events(
        chunk({"role": "assistant", "reasoning_content": "Six by"}),
        chunk({"reasoning_content": " seven."}),
        chunk({"content": ANSWER}),
        chunk({}, "stop"),
    )
    given: Any = {
        "model": "deepseek/r",
        "api_key": "k",
        "messages": [{"role": "user", "content": "go"}],
    }
    with Canned("text/event-stream", stream) as server:
        chunks = list(create_chat(**given, api_base=server.url, stream=True))
    deltas = [c.choices[0].delta for c in chunks if c.choices]
    assert "".join(getattr(d, "reasoning_content", None) or "" for d in deltas) == "Six by seven."
    assert "".join(d.content or "" for d in deltas) == ANSWER


def test_thinking_of_anthropics_comes_with_its_signature() -> None:
    thought = {"type": "thinking", "thinking": "Six by seven.", "signature": "c2lnbmVk"}
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-x",
        "content": [thought, {"type": "text", "text": ANSWER}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 20},
    }
    given: Any = {"model": "anthropic/claude-x", "api_key": "k"}
    with Canned("application/json", json.dumps(message).encode()) as server:
        answer = create_chat(**given, api_base=server.url, messages=[{"role": "user", "content": "go"}])
        response = create_response(**given, api_base=server.url, input="go")
    said = answer.choices[0].message
    assert (said.content, said.reasoning_content) == (ANSWER, "Six by seven.")
    assert said.to_dict()["thinking_blocks"] == [thought]
    assert answer.usage.total_tokens == 30
    assert [i.type for i in response.output] == ["reasoning", "message"]
    assert response.output_text == ANSWER


def deepseeks_chunks(thought: str) -> bytes:
    def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "r", "choices": [choice]}

    begun = chunk({"role": "assistant", "reasoning_content": thought[:6]})
    return events(
        begun, chunk({"reasoning_content": thought[6:]}), chunk({"content": ANSWER}), chunk({}, "stop")
    )


def anthropics_events(thought: str) -> bytes:
    def delta(index: int, kind: str, **fields: str) -> dict[str, Any]:
        return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **fields}}

    def begun(index: int, **block: str) -> dict[str, Any]:
        return {"type": "content_block_start", "index": index, "content_block": block}

    usage = {"input_tokens": 10, "output_tokens": 20}
    about = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x", "content": []}
    return events(
        {"type": "message_start", "message": {**about, "stop_reason": None, "usage": usage}},
        begun(0, type="thinking", thinking="", signature=""),
        delta(0, "thinking_delta", thinking=thought[:6]),
        delta(0, "thinking_delta", thinking=thought[6:]),
        delta(0, "signature_delta", signature="c2lnbmVk"),
        {"type": "content_block_stop", "index": 0},
        begun(1, type="text", text=""),
        delta(1, "text_delta", text=ANSWER),
        {"type": "content_block_stop", "index": 1},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": usage,
        },
        {"type": "message_stop"},
    )


def anthropics_message(thought: str) -> bytes:
    block = {"type": "thinking", "thinking": thought, "signature": "c2lnbmVk"}
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-x",
        "content": [block, {"type": "text", "text": ANSWER}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 20},
    }
    return json.dumps(message).encode()


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("name", "api", "streamed", "body"),
    [
        ("deepseek/r", "chat", True, deepseeks_chunks),
        ("anthropic/claude-x", "chat", True, anthropics_events),
        ("anthropic/claude-x", "chat", False, anthropics_message),
        ("anthropic/claude-x", "responses", True, anthropics_message),
        ("anthropic/claude-x", "responses", False, anthropics_message),
    ],
)
async def test_a_session_tells_of_what_the_model_thinks(
    name: str, api: str, streamed: bool, body: Callable[[str], bytes], tmp_path: Path
) -> None:
    thought = "I could\n```bash:execute\ntouch draft\n```\nor not."
    kind = "text/event-stream" if streamed and api == "chat" else "application/json"
    made: Any = ChatModel if api == "chat" else ResponsesModel
    create = create_chat if api == "chat" else create_response
    with Canned(kind, body(thought)) as server:
        options = {"api_base": server.url, "api_key": "k"}
        model = made(name, create=create, is_async=False, streamed=streamed, options=options)
        async with Session(model, cwd=tmp_path, tools=[]) as session:
            seen = [event async for event in session.run("go")]
    assert "".join(event.text for event in seen if event.type == "reasoning") == thought
    assert seen[-1].text == ANSWER  # type: ignore[union-attr]
    assert not (tmp_path / "draft").exists()


def test_line_separators_within_a_text_are_no_malformed_chunk() -> None:
    def chunk(text: str, **more: Any) -> dict[str, Any]:
        return {"candidates": [{"content": {"parts": [{"text": text}], "role": "model"}, "index": 0, **more}]}

    stream = events(chunk("one\u2028two"), chunk("three\x85 four", finishReason="STOP"))
    with Canned("text/event-stream", stream) as server:
        given: Any = {"model": "gemini/gemini-x", "api_base": server.url, "api_key": "k"}
        chunks = list(create_chat(**given, messages=[{"role": "user", "content": "go"}], stream=True))
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == "onetwothree four"  # httpx, under LiteLLM, takes the separators away
    assert [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason] == [
        "stop"
    ]


def test_every_prefix_that_is_routed_is_one_of_litellms() -> None:
    from agentd_model_litellm.litellm import _library

    known = {getattr(p, "value", p) for p in _library().provider_list}
    assert known >= PROVIDERS


LATE = """
import os, sys
before = dict(os.environ)
from agentd_model_litellm.litellm import create_chat
chunks = list(create_chat(model="gemini/g", api_base=sys.argv[1], api_key="k", stream=True,
                          messages=[{"role": "user", "content": "go"}], stream_options={"include_usage": True}))
assert chunks[-1].usage.prompt_tokens > 0, chunks[-1]
assert dict(os.environ) == before, set(os.environ) ^ set(before)
assert "tenacity" not in sys.modules
"""


@pytest.mark.slow
def test_counting_tokens_for_a_provider_that_does_not_leaves_the_environment_alone() -> None:
    part = {"content": {"parts": [{"text": ANSWER}], "role": "model"}, "index": 0, "finishReason": "STOP"}
    with Canned("text/event-stream", events({"candidates": [part]})) as server:
        done = subprocess.run(
            [sys.executable, "-c", LATE, server.url], capture_output=True, text=True, timeout=100, check=False
        )
    assert done.returncode == 0, done.stderr

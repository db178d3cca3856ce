"""Long conversations go past the SDK's transformation, and what is sent is the same."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import openai
import pytest
from agentd.protocols import ModelFinish
from agentd_model_openai.chat import ChatModel
from agentd_model_openai.plain import is_sdk_method, past_transformation

CHAT: list[dict[str, Any]] = [
    {
        "role": "system",
        "content": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
    },
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "What is this?"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
            {"type": "file", "file": {"file_data": "AAAA", "filename": "a.pdf"}},
        ],
    },
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        "reasoning_content": "a provider's own field",
    },
    {"role": "tool", "tool_call_id": "call_1", "content": "42"},
    {"role": "developer", "content": "Now say it in French.", "name": "boss"},
]
RESPONSES: list[dict[str, Any]] = [
    {
        "role": "user",
        "content": [{"type": "input_text", "text": "Hello"}, {"type": "input_image", "file_id": "f"}],
    },
    {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "xyz"},
    {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "call_1", "output": "42"},
    {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "Hi"}],
    },
]


class Recorded:
    """The real SDK over a transport that keeps what was sent."""

    def __init__(self) -> None:
        http: Any = __import__(openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0])
        self.bodies: list[bytes] = []

        def answer(request: Any) -> Any:
            self.bodies.append(request.content)
            return http.Response(400, json={"error": {"message": "recorded"}})

        self.client = openai.OpenAI(
            api_key="none",
            base_url="http://model.invalid/v1",
            max_retries=0,
            http_client=http.Client(transport=http.MockTransport(answer)),
        )

    def send(self, create: Callable[..., Any], arguments: dict[str, Any]) -> bytes:
        with pytest.raises(openai.BadRequestError):
            create(**arguments)
        return self.bodies.pop()


@pytest.mark.parametrize("stream", [False, True])
def test_chat_sends_the_same_bytes_as_the_sdk_would(stream: bool) -> None:
    recorded = Recorded()
    create = recorded.client.chat.completions.create
    arguments = {
        "model": "m",
        "messages": CHAT,
        "stream": stream,
        "temperature": 0.5,
        "extra_body": {"own": 1},
    }
    slim = past_transformation(arguments)
    assert slim["messages"] == []
    assert recorded.send(create, slim) == recorded.send(create, arguments)
    assert arguments["messages"] is CHAT
    assert arguments["extra_body"] == {"own": 1}


def test_responses_send_the_same_body_as_the_sdk_would() -> None:
    recorded = Recorded()
    create = recorded.client.responses.create
    arguments = {"model": "m", "input": RESPONSES, "instructions": "Be brief."}
    sent = recorded.send(create, past_transformation(arguments))
    assert json.loads(sent) == json.loads(recorded.send(create, arguments))


def test_what_is_no_plain_json_is_left_to_the_sdk() -> None:
    from openai.types.chat import ChatCompletionMessage

    message = ChatCompletionMessage(role="assistant", content="Hi")
    arguments = {"model": "m", "messages": [{"role": "user", "content": "Hello"}, message]}
    assert past_transformation(arguments) == arguments
    recorded = Recorded()
    body = json.loads(recorded.send(recorded.client.chat.completions.create, past_transformation(arguments)))
    assert body["messages"][1] == {"role": "assistant", "content": "Hi"}


def test_a_wrapper_around_the_sdk_s_method_sees_the_messages() -> None:
    original = openai.OpenAI(api_key="none").chat.completions.create
    assert is_sdk_method(original)
    assert is_sdk_method(openai.AsyncOpenAI(api_key="none").chat.completions.create)

    @functools.wraps(original)
    def traced(**kwargs: Any) -> Any:
        return original(**kwargs)

    assert not is_sdk_method(traced)
    assert not is_sdk_method(functools.partial(original))


@pytest.mark.anyio
async def test_requests_that_start_together_leave_the_loop_to_others_in_between(anyio_backend: str) -> None:
    order: list[str] = []

    async def create(**kwargs: Any) -> Any:
        order.append("request")
        raise ConnectionError

    async def ask() -> None:
        model = ChatModel("m", create=create, streamed=False)
        with pytest.raises(Exception, match="ConnectionError"):
            async with model.stream() as events:
                assert [e async for e in events if isinstance(e, ModelFinish)]

    async def tick() -> None:
        while order.count("request") < 8:
            await anyio.lowlevel.checkpoint()
            order.append("tick")

    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(ask)
        group.start_soon(tick)
    # trio shuffles the tasks of a pass: two requests of neighbouring passes may stand together
    assert "request request request" not in " ".join(order)

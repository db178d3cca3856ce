"""An OpenAI client whose model answers by a script, below the SDK: its requests are those that a provider would get."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from evidence.cases import GoldCall
from evidence.tokens import Meter

__all__ = ["Answer", "scripted_client"]

Answer = str | Sequence[GoldCall]
HEAD = {"id": "chatcmpl-1", "created": 1_700_000_000, "model": "gold", "object": "chat.completion.chunk"}


def scripted_client(answer: Callable[[dict[str, Any]], Answer], meter: Meter) -> Any:
    """Return an `AsyncOpenAI` client.

    :param answer: gets a request's body and returns a text, or tool calls.
    :param meter: is told of each request and answer.
    """
    import openai

    http = _http_library(openai)

    async def handle(request: Any) -> Any:
        body = json.loads(request.content)
        meter.request(body, len(request.content))
        said = answer(body)
        meter.answer(said if isinstance(said, str) else _as_text(said))
        lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in _chunks(said, meter.spent.requests)]
        return http.Response(
            200,
            headers={"content-type": "text/event-stream"},
            content="".join([*lines, "data: [DONE]\n\n"]).encode(),
        )

    return openai.AsyncOpenAI(
        api_key="none",
        base_url="http://model.invalid/v1",
        http_client=http.AsyncClient(transport=http.MockTransport(handle)),
    )


def _as_text(calls: Sequence[GoldCall]) -> str:
    return "\n".join(f"{call.name} {json.dumps(dict(call.arguments))}" for call in calls)


def _chunks(said: Answer, request: int) -> list[dict[str, Any]]:
    if isinstance(said, str):
        delta: dict[str, Any] = {"role": "assistant", "content": said}
    else:
        delta = {
            "role": "assistant",
            "tool_calls": [
                {
                    "index": number,
                    "id": f"call_{request}_{number}",
                    "type": "function",
                    "function": {"name": call.name, "arguments": json.dumps(dict(call.arguments))},
                }
                for number, call in enumerate(said)
            ],
        }
    reason = "stop" if isinstance(said, str) else "tool_calls"
    return [
        {**HEAD, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]},
        {**HEAD, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]},
    ]


def _http_library(openai: Any) -> Any:
    """Return the HTTP library that this version of the SDK is built on."""
    import importlib

    for base in openai.DefaultHttpxClient.__mro__:
        if (name := base.__module__.split(".")[0]).startswith("httpx"):
            return importlib.import_module(name)
    raise RuntimeError(f"openai {openai.__version__} is built on an HTTP library that is not known")

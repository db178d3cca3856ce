"""Native calls and last chunks as servers of other makers send them: every call runs, and the usage counts once."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fake_openai import Answer
from kit import add, results
from ways import call, text_of

Chunk = dict[str, Any]
USAGE = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}
STREAMED = ["sync-chat-stream", "async-chat-stream"]
NUMBERS = ((2, 3), (5, 1))


def chunk(delta: Chunk, finish: str | None = None, **more: Any) -> Chunk:
    about = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return {**about, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}


def whole_call(number: int, **more: Any) -> Chunk:
    a, b = NUMBERS[number]
    return {
        "type": "function",
        "function": {"name": "add", "arguments": json.dumps({"a": a, "b": b})},
        **more,
    }


def answer(*deltas: Chunk, last: tuple[Chunk, ...] = ()) -> Answer:
    return Answer(pieces=[*map(chunk, deltas), chunk({}, "tool_calls"), *last, b"data: [DONE]\n\n"])


SHAPES = {
    "no index": [{"tool_calls": [whole_call(n, id=f"c{n}") for n in (0, 1)]}],
    "no index, in two chunks": [{"tool_calls": [whole_call(n, id=f"c{n}")]} for n in (0, 1)],
    "no id": [{"tool_calls": [whole_call(n, index=n) for n in (0, 1)]}],
    "neither": [{"tool_calls": [whole_call(n) for n in (0, 1)]}],
    "an empty id": [{"tool_calls": [whole_call(n, index=n, id="") for n in (0, 1)]}],
    "equal indices": [{"tool_calls": [whole_call(n, index=0, id=f"c{n}") for n in (0, 1)]}],
    "equal ids": [{"tool_calls": [whole_call(n, index=n, id="c") for n in (0, 1)]}],
    "equal indices, no id": [{"tool_calls": [whole_call(n, index=0) for n in (0, 1)]}],
    "all equal": [{"tool_calls": [whole_call(n, index=0, id="c") for n in (0, 1)]}],
}


@pytest.mark.parametrize("way", STREAMED)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_call_runs_whatever_its_number_and_id(shape: str, way: str, serve: Any, patched: Any) -> None:
    server = serve(answer(*SHAPES[shape]), "Done.")
    outcome = call(way, patched(server, asynchronous=way.startswith("async"), tools=[add]))
    assert text_of(way, outcome) == "Done."
    assert ended_once(outcome.items)
    assert [text for _, text in results(server.requests[1])] == ["5", "6"]
    asked = next(m for m in server.requests[1]["messages"] if m.get("tool_calls"))
    ids = [c["id"] for c in asked["tool_calls"]]
    assert [id for id, _ in results(server.requests[1])] == ids
    assert all(ids)
    assert len(set(ids)) == (
        1 if shape in ("equal ids", "all equal") else 2
    )  # a server's own go back as they are


def ended_once(items: list[Any]) -> bool:
    return len([c for c in items if c.choices and c.choices[0].finish_reason]) == 1


ABOUT = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
LAST = {
    "no choices": [{**ABOUT, "choices": [], "usage": USAGE}],
    "an empty choice": [chunk({}, usage=USAGE)],
    "an empty choice with a role": [chunk({"role": "assistant", "content": ""}, usage=USAGE)],
    "the finish reason again": [chunk({}, "stop", usage=USAGE)],
    "with the finish reason": [],
}


@pytest.mark.parametrize("way", STREAMED)
@pytest.mark.parametrize("shape", LAST)
def test_the_last_chunk_may_have_the_usage_in_any_form(
    shape: str, way: str, serve: Any, patched: Any
) -> None:
    end = chunk({}, "stop", usage=USAGE) if shape == "with the finish reason" else chunk({}, "stop")
    server = serve(Answer(pieces=[chunk({"content": "Hi."}), end, *LAST[shape], b"data: [DONE]\n\n"]))
    client = patched(server, asynchronous=way.startswith("async"), tools=[add])
    outcome = call(way, client, stream_options={"include_usage": True})
    assert text_of(way, outcome) == "Hi."
    assert ended_once(outcome.items)
    assert [c.usage.total_tokens for c in outcome.items if c.usage] == [14]

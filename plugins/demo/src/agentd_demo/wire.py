"""The OpenAI wire formats as a server writes them: chat completions, responses, models, embeddings.

Source: the OpenAI API reference (chat completion chunks; responses streaming events). Only what a
text-only model sends. Every function is pure: text in, JSON-ready data out.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

__all__ = ["Reply", "chat_chunks", "chat_object", "conversation", "embeddings", "response_events", "sse"]

Json = dict[str, Any]


@attrs.frozen(kw_only=True)
class Reply:
    """An answer to be put on the wire: its pieces, in order, and what the request said around it."""

    id: str
    model: str
    pieces: Sequence[str]
    input_tokens: int
    previous_id: str | None = None
    metadata: Mapping[str, str] = attrs.field(factory=dict)
    created: int = attrs.field(factory=lambda: int(time.time()))

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def output_tokens(self) -> int:
        return max(1, len(self.text) // 4)


def sse(data: Json, event: str = "") -> bytes:
    """One server-sent event."""
    head = f"event: {event}\n" if event else ""
    return f"{head}data: {json.dumps(data)}\n\n".encode()


# --- what a request holds ------------------------------------------------------------------------


def conversation(request: Json) -> list[tuple[str, str]]:
    """Return the (role, text) pairs of a chat or responses request, in order."""
    if "messages" in request:
        return [(str(m.get("role", "")), _text(m.get("content"))) for m in request["messages"]]
    pairs = [("system", str(request["instructions"]))] if request.get("instructions") else []
    items = request.get("input", "")
    if isinstance(items, str):
        return [*pairs, ("user", items)]
    for item in items:
        if item.get("type", "message") == "message":
            pairs.append((str(item.get("role", "user")), _text(item.get("content"))))
        elif "output" in item:  # the result of a function call
            pairs.append(("tool", _text(item["output"])))
    return pairs


def _text(content: object) -> str:
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return "" if content is None else str(content)


# --- chat completions ----------------------------------------------------------------------------


def _chat_usage(reply: Reply) -> Json:
    return {
        "prompt_tokens": reply.input_tokens,
        "completion_tokens": reply.output_tokens,
        "total_tokens": reply.input_tokens + reply.output_tokens,
    }


def chat_object(reply: Reply) -> Json:
    """The `chat.completion` object."""
    message = {"role": "assistant", "content": reply.text, "refusal": None}
    return {
        "id": reply.id,
        "object": "chat.completion",
        "created": reply.created,
        "model": reply.model,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
        "usage": _chat_usage(reply),
    }


def chat_chunks(reply: Reply, *, include_usage: bool) -> Iterator[bytes]:
    """The stream of `chat.completion.chunk` events, up to and with `[DONE]`; one event for each piece."""
    base: Json = {
        "id": reply.id,
        "object": "chat.completion.chunk",
        "created": reply.created,
        "model": reply.model,
    }

    def chunk(delta: Json, finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        extra = {"usage": None} if include_usage else {}
        return sse({**base, "choices": [choice], **extra})

    yield chunk({"role": "assistant", "content": ""})
    for piece in reply.pieces:
        yield chunk({"content": piece})
    yield chunk({}, "stop")
    if include_usage:
        yield sse({**base, "choices": [], "usage": _chat_usage(reply)})
    yield b"data: [DONE]\n\n"


# --- responses -----------------------------------------------------------------------------------


def _message_item(reply: Reply, status: str, text: str | None) -> Json:
    content = [] if text is None else [_part(text)]
    return {
        "id": f"msg_{reply.id}",
        "type": "message",
        "role": "assistant",
        "status": status,
        "content": content,
    }


def _part(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def response_object(reply: Reply, *, status: str = "completed") -> Json:
    """The `response` object; without output and usage while it is in progress."""
    done = status == "completed"
    usage = {
        "input_tokens": reply.input_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": reply.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": reply.input_tokens + reply.output_tokens,
    }
    return {
        "id": reply.id,
        "object": "response",
        "created_at": reply.created,
        "model": reply.model,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": dict(reply.metadata),
        "output": [_message_item(reply, "completed", reply.text)] if done else [],
        "parallel_tool_calls": True,
        "previous_response_id": reply.previous_id,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": usage if done else None,
    }


def response_events(reply: Reply) -> Iterator[bytes]:
    """The events of a streamed response, `response.created` to `response.completed`."""
    sequence = iter(range(1_000_000_000))
    item_id = f"msg_{reply.id}"
    place: Json = {"item_id": item_id, "output_index": 0, "content_index": 0}

    def event(kind: str, **fields: object) -> bytes:
        return sse({"type": kind, "sequence_number": next(sequence), **fields}, kind)

    started = response_object(reply, status="in_progress")
    yield event("response.created", response=started)
    yield event("response.in_progress", response=started)
    yield event("response.output_item.added", output_index=0, item=_message_item(reply, "in_progress", None))
    yield event("response.content_part.added", part=_part(""), **place)
    for piece in reply.pieces:
        yield event("response.output_text.delta", delta=piece, logprobs=[], **place)
    yield event("response.output_text.done", text=reply.text, logprobs=[], **place)
    yield event("response.content_part.done", part=_part(reply.text), **place)
    item = _message_item(reply, "completed", reply.text)
    yield event("response.output_item.done", output_index=0, item=item)
    yield event("response.completed", response=response_object(reply))


# --- embeddings ----------------------------------------------------------------------------------


def embeddings(request: Json) -> Json:
    """Eight numbers for each input text, the same for the same text, as floats or base64 as asked."""
    inputs = request.get("input", [])
    texts = [inputs] if isinstance(inputs, str) else list(inputs)
    data = [
        {"object": "embedding", "index": i, "embedding": _vector(str(text), request.get("encoding_format"))}
        for i, text in enumerate(texts)
    ]
    tokens = sum(max(1, len(str(text)) // 4) for text in texts)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": request.get("model", "replay"), "usage": usage}


def _vector(text: str, encoding: object) -> object:
    numbers = [byte / 255 for byte in hashlib.sha256(text.encode()).digest()[:8]]
    return base64.b64encode(struct.pack("<8f", *numbers)).decode() if encoding == "base64" else numbers

"""Chat completions made of a model's events: the SDK's own chunks and completions, for providers without the SDK."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import uuid4

import attrs
from agentd.protocols import ModelEvent, ModelFinish, ModelText, ModelToolCall

from agentd_openai.chat_request import add_usage, finish_reason

__all__ = ["ChatWire"]


class ChatWire:
    """Makes the objects of one answer. Each method returns the events with their objects, in order."""

    def __init__(self, model: str) -> None:
        from openai.types.chat import ChatCompletion, ChatCompletionChunk

        self._completion, self._chunk = ChatCompletion, ChatCompletionChunk
        self._about = {"id": f"chatcmpl-{uuid4().hex}", "created": int(time.time()), "model": model}
        self._calls = 0

    def begin(self) -> Iterator[ModelEvent]:
        """The answer has begun: a chunk with the role."""
        yield ModelText("", self._made({"role": "assistant", "content": ""}))

    def text(self, text: str) -> Iterator[ModelEvent]:
        """A piece of text."""
        yield ModelText(text, self._made({"content": text}))

    def reasoning(self, text: str) -> Iterator[ModelEvent]:
        """A piece of what the model thinks, in the field that most servers have for it."""
        yield ModelText("", self._made({"reasoning_content": text}), text)

    def call(self, call: ModelToolCall) -> Iterator[ModelEvent]:
        """A native call, whole."""
        plain = _plain(call)
        yield ModelText("", self._made({"tool_calls": [{"index": self._calls, **plain}]}))
        self._calls += 1
        yield attrs.evolve(call, raw=plain)

    def finish(self, finish: ModelFinish) -> Iterator[ModelEvent]:
        """The answer has ended."""
        reason = self._reason(finish)
        chunk = self._made({}, reason)
        yield ModelText("", chunk)
        yield attrs.evolve(finish, raw=chunk)

    def whole(
        self, text: str, calls: Sequence[ModelToolCall], finish: ModelFinish, reasoning: str = ""
    ) -> Iterator[ModelEvent]:
        """The answer in one piece. The end comes first, as of a `ChatModel`."""
        self._calls = len(calls)
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if reasoning:
            message["reasoning_content"] = reasoning
        if calls:
            message["tool_calls"] = [_plain(call) for call in calls]
        reason = self._reason(finish)
        choice = {"index": 0, "finish_reason": reason, "logprobs": None, "message": message}
        made = self._completion.model_validate(
            {
                **self._about,
                "object": "chat.completion",
                "choices": [choice],
                "usage": add_usage(finish.usage).to_dict(),
            }
        )
        yield attrs.evolve(finish, raw=made)
        yield ModelText(text, made, reasoning)
        for call in calls:
            yield attrs.evolve(call, raw=_plain(call))

    def _made(self, delta: dict[str, Any], reason: str | None = None) -> Any:
        choices = [{"index": 0, "delta": delta, "finish_reason": reason}]
        return self._chunk.model_validate(
            {**self._about, "object": "chat.completion.chunk", "choices": choices}
        )

    def _reason(self, finish: ModelFinish) -> str:
        """Return the end's reason as chat completions name it: providers have words of their own."""
        reason = finish_reason(finish.reason)
        return "tool_calls" if self._calls and reason == "stop" else reason


def _plain(call: ModelToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}

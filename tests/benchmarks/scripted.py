"""A model without latency that follows a script of texts and tool calls, below the SDK. Standard library only."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from benchmarks.kit import FakeModel, cut

__all__ = ["ScriptedModel", "call"]

Answer = str | Sequence[tuple[str, dict[str, Any]]]


def call(name: str, **arguments: Any) -> tuple[str, dict[str, Any]]:
    """Return a tool call for a script."""
    return name, arguments


class ScriptedModel(FakeModel):
    """Answers with the script's next entry: a text, or tool calls. The script starts again after its end.

    `sent_bytes` is the size of all request bodies; `block_end_s` when the last text was handed over
    (CLOCK_MONOTONIC).
    """

    def __init__(self, script: Sequence[Answer]) -> None:
        super().__init__("", blocks=0)
        self._script = list(script)
        self._at = 0
        self.sent_bytes = 0
        self.first_request_s = 0.0
        self.block_end_s = 0.0

    def _reply(self, http: Any, body: dict[str, Any]) -> Any:
        self.requests += 1
        self.first_request_s = self.first_request_s or time.monotonic()
        self.sent_bytes += len(json.dumps(body))
        answer = self._script[self._at]
        self._at = (self._at + 1) % len(self._script)
        head = {"id": "chatcmpl-1", "created": 1_700_000_000, "model": "gpt-4o"}
        if body.get("stream"):
            assert isinstance(answer, str)
            content = self._stream(head, answer)
            if self._is_async:
                return http.Response(
                    200, headers={"content-type": "text/event-stream"}, content=_later(content)
                )
            return http.Response(200, headers={"content-type": "text/event-stream"}, content=content)
        message: dict[str, Any] = {"role": "assistant", "content": None}
        if isinstance(answer, str):
            message["content"] = answer
        else:
            message["tool_calls"] = [
                {
                    "id": f"call_{self.requests}_{number}",
                    "type": "function",
                    "function": {"name": name, "arguments": json.dumps(arguments)},
                }
                for number, (name, arguments) in enumerate(answer)
            ]
        reason = "stop" if isinstance(answer, str) else "tool_calls"
        choice = {"index": 0, "message": message, "finish_reason": reason}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        full = {**head, "object": "chat.completion", "choices": [choice], "usage": usage}
        self.block_end_s = time.monotonic()
        return http.Response(200, json=full)

    def _stream(self, head: dict[str, Any], text: str) -> Iterator[bytes]:
        for part in [*cut(text, 16), None]:
            delta = {} if part is None else {"content": part}
            choice = {"index": 0, "delta": delta, "finish_reason": "stop" if part is None else None}
            chunk = {**head, "object": "chat.completion.chunk", "choices": [choice]}
            if part is not None:
                self.block_end_s = time.monotonic()
            yield f"data: {json.dumps(chunk)}\n\n".encode()
        yield b"data: [DONE]\n\n"

    _is_async = False

    def async_client(self) -> Any:
        """Return an `AsyncOpenAI` client of this model."""
        self._is_async = True
        return super().async_client()


async def _later(content: Iterator[bytes]) -> AsyncIterator[bytes]:
    for part in content:
        yield part

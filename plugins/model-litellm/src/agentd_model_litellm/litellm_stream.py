"""Streams of chat chunks from LiteLLM, with the mends that make a broken one an error."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator
from typing import Any

from agentd_model_openai.line_limit import limit_lines

__all__ = ["ChunkStream", "plain"]


class ChunkStream:
    """The chunks of LiteLLM's stream as `ChatCompletionChunk`s. `close` hangs up.

    Making one waits for the first chunk: LiteLLM asks some providers only then, and a refusal is to be told
    before the stream begins.
    """

    def __init__(self, stream: Any) -> None:
        from openai.types.chat import ChatCompletionChunk

        self._stream = stream
        self._type = ChatCompletionChunk
        self._lines: _CheckedLines | None = None
        self._guard()
        self._first: list[Any] = []
        try:
            self._first.append(self._next())
        except StopIteration:
            pass  # the reader finds it empty
        except BaseException:
            self.close()
            raise

    @property
    def response(self) -> Any:
        """The HTTP response, where LiteLLM keeps it: for providers that it asks through the SDK."""
        return getattr(getattr(self._stream, "completion_stream", None), "response", None)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return self._first.pop() if self._first else self._next()

    def _next(self) -> Any:
        try:
            data = plain(next(self._stream))
        except Exception as exc:
            original = getattr(exc, "original_exception", None)
            if type(exc).__name__ == "MidStreamFallbackError" and isinstance(original, Exception):
                # it calls every failure "service unavailable", a used up quota too
                raise original from original.__cause__
            raise
        choices = data.get("choices") or []
        word = self._lines.word if self._lines is not None else ""
        for choice in choices:
            if choice.get("finish_reason") == "stop" and word not in ("", "STOP"):
                choice["finish_reason"] = word.lower()  # MALFORMED_FUNCTION_CALL, say
        if not self._saw_finish():
            for choice in choices:
                choice.pop("finish_reason", None)
        if "usage" in data and not any(c.get("delta") or c.get("finish_reason") for c in choices):
            data["choices"] = []  # as the SDK has it
        return self._type.construct(**data)

    def _saw_finish(self) -> bool:
        """Tell whether the provider has said why it ended: LiteLLM says `stop` for one that did not."""
        if self._lines is not None and self._lines.finished is False:
            return False
        if not hasattr(self._stream, "received_finish_reason"):
            return True
        given = self._stream.received_finish_reason
        return bool(given or getattr(self._stream, "intermittent_finish_reason", None))

    def _guard(self) -> None:
        """Have the provider's lines checked, also those of a request that LiteLLM makes with the first
        chunk."""
        inner = getattr(self._stream, "completion_stream", None)
        limit_lines(getattr(inner, "response", None))  # of a provider that LiteLLM asks through the SDK
        self._lines = _check_lines(inner)
        make: Callable[..., Any] | None = getattr(self._stream, "make_call", None)
        if make is None:
            return

        def make_checked(*args: Any, **kwargs: Any) -> Any:
            inner = make(*args, **kwargs)
            self._lines = _check_lines(inner)
            return inner

        self._stream.make_call = make_checked

    def close(self) -> None:
        """Close the connection. To be called by the thread that reads."""
        inner: Any = getattr(self._stream, "completion_stream", None)
        for part in (getattr(inner, "streaming_response", None), inner):
            close = getattr(part, "close", None)
            if close is not None:
                close()


def plain(answer: Any) -> dict[str, Any]:
    """Return LiteLLM's object as data. Its classes declare other fields than they hold: hence no warnings."""
    data: dict[str, Any] = answer.model_dump(exclude_none=True, warnings=False)
    return data


def _check_lines(inner: Any) -> _CheckedLines | None:
    lines = getattr(inner, "streaming_response", None)
    if not hasattr(lines, "__next__"):
        return None
    if inspect.isgenerator(
        lines
    ):  # httpx's `Response.iter_lines`, not begun: nothing else knows the response
        limit_lines(inspect.getgeneratorlocals(lines).get("self"))
    inner.streaming_response = checked = _CheckedLines(lines)
    if hasattr(inner, "response_iterator"):
        inner.response_iterator = checked
    return checked


class _CheckedLines:
    """The lines of server-sent events, each `data:` line with the whole of its JSON.

    LiteLLM keeps data that is no JSON and waits for the rest of it, for ever in one case (Gemini's reader in
    1.83 loops without reading on). Data can only continue in the next line where httpx has split it: at
    characters such as U+2028, which may stand in a JSON string. What does not become JSON so is an error.

    `finished` says whether Gemini has given its finish marker, for LiteLLM makes one up for each chunk; None
    for other formats. `word` is that marker, for LiteLLM says `stop` for some.
    """

    def __init__(self, lines: Any) -> None:
        self._lines = lines
        self.finished: bool | None = None
        self.word = ""

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        line = next(self._lines)
        if not isinstance(line, str) or not line.startswith("data:"):
            return line
        while True:
            try:
                self._look(line[5:].strip())
                return line
            except ValueError:
                more = next(self._lines, "")
                if not more or more.startswith(("data:", "event:", "id:", ":")):
                    raise ValueError(f"a chunk is no valid JSON: {line[:80]!r}") from None
                line += more

    def _look(self, data: str) -> None:
        if not data or data == "[DONE]":
            return
        chunk = json.loads(data, strict=False)
        if not isinstance(chunk, dict) or not chunk.keys() & {"candidates", "promptFeedback"}:
            return
        ends = [c.get("finishReason") for c in chunk.get("candidates") or () if isinstance(c, dict)]
        blocked = (chunk.get("promptFeedback") or {}).get("blockReason")
        self.finished = bool(self.finished or blocked or any(ends))
        self.word = next((str(e) for e in ends if e), "blocked" if blocked else self.word)

    def close(self) -> None:
        close = getattr(self._lines, "close", None)
        if close is not None:
            close()

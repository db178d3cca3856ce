"""The events of a streamed answer that came over a wire of ours, as the SDK's own stream gives them.

Chunks of text are read here. From the first thing on that is anything else than a chunk in one line or a comment (an
error, another kind of line end, what is no JSON, a connection that breaks), the SDK's own stream reads the rest.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from agentd_model_openai.line_limit import EventMeter, LineTooLongError, limit_lines
from agentd_model_openai.quick_chunks import QuickChunks, chunk_type, text_chunk
from agentd_model_openai.wire import WireAnswer, WireError

__all__ = ["QuickEventStream"]

_END: Final = b"\n\n"
_DECODER: Final = json.JSONDecoder()
_DONE: Final = b"data: [DONE]"
_DRAIN_S: Final = 0.1
"""How long the end of the body may take behind that of the stream: as the SDK waits for it."""


class QuickEventStream:
    """The chunks of an answer. An async iterator, to be closed.

    :param answer: whose body is an event stream, not compressed.
    :param respond: makes the HTTP library's response of it, with that body; errors of the wire become its own.
    :param client: an `AsyncOpenAI`.
    """

    is_bounded = True
    """Events are no longer than `line_limit` says."""

    def __init__(
        self, answer: WireAnswer, respond: Callable[[AsyncIterator[bytes]], Any], client: Any
    ) -> None:
        self._answer = answer
        self._respond = respond
        self._client = client
        self._response: Any = None
        self._meter = EventMeter()
        self._held = b""
        self._chunks: deque[Any] = deque()
        self._is_over = False
        self._error: WireError | None = None
        self._sdks: Any = None  # the stream that reads the rest

    @property
    def response(self) -> Any:
        """The HTTP library's response."""
        if self._response is None:
            self._response = self._respond(_RestOfBody(self))
        return self._response

    def __aiter__(self) -> QuickEventStream:
        return self

    async def __anext__(self) -> Any:
        while not self._chunks:
            if self._sdks is not None:
                return await anext(self._sdks)
            if self._is_over:
                raise StopAsyncIteration
            await self._read()
        return self._chunks.popleft()

    async def _read(self) -> None:
        try:
            data = await self._answer.read()
        except WireError as error:
            self._error = error
            self._hand_over()
            return
        if not data or b"\r" in data:
            self._held += data
            self._hand_over()
            return
        try:
            self._meter.add(data)
        except LineTooLongError:
            self._answer.close()
            raise
        *events, self._held = (self._held + data).split(_END)
        for number, event in enumerate(events):
            if event == _DONE:
                self._is_over = True
                await self._drain()
                return
            if not self._take(event):
                self._held = _END.join([*events[number:], self._held])
                self._hand_over()
                return

    def _take(self, event: bytes) -> bool:
        """Take what stands between two empty lines. Tell whether it was a chunk or a comment."""
        if b"\n" in event:
            return False
        if event.startswith(b":") or not event:
            return True
        if not event.startswith(b"data: {"):
            return False
        try:
            text = event[6:].decode()
            data, end = _DECODER.raw_decode(text)
        except ValueError:
            return False
        if end != len(text) or data.get("error"):
            return False
        made = text_chunk(data)
        if made is None:
            made = self._client._process_response_data(
                data=data, cast_to=chunk_type(), response=self.response
            )
        self._chunks.append(made)
        return True

    def _hand_over(self) -> None:
        from openai import AsyncStream

        response = self.response
        limit_lines(response)
        client: Any = QuickChunks(self._client)
        self._sdks = AsyncStream(cast_to=chunk_type(), response=response, client=client)

    async def _drain(self) -> None:
        """Read the end of the body, so that the connection can be used again."""
        try:
            async with asyncio.timeout(_DRAIN_S):
                while await self._answer.read():
                    pass
        except (WireError, TimeoutError):
            pass
        self._answer.close()

    async def rest(self) -> bytes:
        """Return what comes next of the body, for who reads it in place of this. :raises WireError:"""
        held, self._held = self._held, b""
        if held:
            return held
        if self._error is not None:
            raise self._error
        return await self._answer.read()

    async def close(self) -> None:
        """End it. The connection is kept if all was read."""
        self._is_over = True
        self._chunks.clear()
        sdks, self._sdks = self._sdks, None
        if sdks is not None:
            await sdks.close()
        self.end()

    def end(self) -> None:
        """Let go of the wire."""
        self._answer.close()


class _RestOfBody:
    """What of a body has not been read yet."""

    def __init__(self, stream: QuickEventStream) -> None:
        self._stream = stream

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        data = await self._stream.rest()
        if not data:
            raise StopAsyncIteration
        return data

    async def aclose(self) -> None:
        """End it."""
        self._stream.end()

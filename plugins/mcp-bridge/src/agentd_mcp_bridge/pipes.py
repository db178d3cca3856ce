"""A server's standard input, output and error: messages one way and the other, and the last words."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import select
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

import anyio
from mcp.shared.message import SessionMessage
from mcp_types import PARSE_ERROR, ErrorData, JSONRPCError, JSONRPCMessage, jsonrpc_message_adapter

from agentd_mcp_bridge.lenient import read_json, request_id

__all__ = ["Flow", "Reader", "Tail", "Writer"]

_log: Final = logging.getLogger("agentd.mcp")
_ENVELOPE: Final = "io.modelcontextprotocol/"
_STDERR_BYTES: Final = 8 * 1024
_FIRST_BYTES: Final = 1024
_FIRST_LINES: Final = 8
_LAST_LINES: Final = 12
_GARBAGE_LINES: Final = 1000
_GARBAGE_BYTES: Final = 1024 * 1024
_ANSWER: Final = re.compile(rb'"(?:result|error)"\s*:')
_TOLD: Final = (1, 10, 100, 1000, 10_000, 100_000)  # of the lines that are no messages
_QUEUE_LOW, _QUEUE_HIGH = 64, 256  # parsed messages that wait for the session


class _Stream(ABC):
    """What the SDK's stream protocols ask for beside receiving and sending."""

    @abstractmethod
    def close(self) -> None:
        """End this direction. May be called again."""

    async def aclose(self) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class Reader(_Stream):
    """Messages from the server's standard output."""

    def __init__(self, name: str, encoding: str, max_message_bytes: int) -> None:
        self._name = name
        self.protocol = _Lines(self._line, self._end, max_message_bytes)
        self.transport: asyncio.ReadTransport | None = None
        self.failure = ""
        self.garbage = ""
        self._encoding = encoding
        self._garbage_lines = self._garbage_bytes = 0
        self._spoke = False
        self._messages: deque[SessionMessage] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self.at_end = False
        """Whether the server has closed its output, or said what ends the connection."""
        self._closed = False
        self._paused = False
        self.take: Callable[[bytes | bytearray], bool] | None = None
        """Sees every line first; the SDK does not get those for which it returns True."""

    def _line(self, line: bytes | bytearray) -> None:
        if self.take is not None and self.take(line):
            return
        if not line.strip():
            return
        message = self._message(line)
        if message is None:
            self._reject(line)
            return
        self._spoke = True
        self._messages.append(SessionMessage(message))
        if len(self._messages) > _QUEUE_HIGH and not self._paused and self.transport is not None:
            self._paused = True
            self.transport.pause_reading()
        self._wake()

    def _message(self, line: bytes | bytearray) -> JSONRPCMessage | None:
        """Return what a line says; an error in place of an answer that cannot be read, for somebody waits for it."""
        text = line
        try:
            if self._encoding != "utf-8":
                text = line.decode(self._encoding).encode()
            return jsonrpc_message_adapter.validate_json(text, by_name=False)
        except ValueError as strict:
            try:
                return jsonrpc_message_adapter.validate_python(read_json(text), by_name=False)
            except ValueError:
                number = request_id(text) if _ANSWER.search(text) else None
                if number is None:
                    return None
                reason = str(strict).partition("\n")[0]
                error = ErrorData(code=PARSE_ERROR, message=f"the server's answer cannot be read: {reason}")
                return JSONRPCError(jsonrpc="2.0", id=number, error=error)

    def _reject(self, line: bytes | bytearray) -> None:
        # Some servers print a banner. One that never says anything else is no MCP server.
        self._garbage_lines += 1
        self._garbage_bytes += len(line)
        if not self.garbage:
            self.garbage = bytes(line[:200]).decode("utf-8", "replace")
        if self._garbage_lines in _TOLD:
            _log.warning(
                "the MCP server %r wrote a line that is no message (its number %d): %r",
                self._name,
                self._garbage_lines,
                bytes(line[:200]).decode("utf-8", "replace"),
            )
        if not self._spoke and (self._garbage_lines > _GARBAGE_LINES or self._garbage_bytes > _GARBAGE_BYTES):
            self._end("does not speak MCP")

    def _end(self, failure: str = "") -> None:
        self.failure = self.failure or failure
        self.at_end = self.at_end or bool(failure) or not self._closed  # closing is no end of the server
        if failure:
            self.close()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def close(self) -> None:
        self._closed = True
        if self.transport is not None:
            self.transport.close()
        self._wake()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage:
        while not self._messages:
            if self.at_end or self._closed:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if self._paused and len(self._messages) < _QUEUE_LOW and self.transport is not None:
            self._paused = False
            self.transport.resume_reading()
        return self._messages.popleft()

    async def receive(self) -> SessionMessage:
        try:
            return await self.__anext__()
        except StopAsyncIteration:
            raise anyio.EndOfStream from None


class _Lines(asyncio.Protocol):
    """Cuts what arrives into lines, in memory bounded by the longest line allowed."""

    def __init__(
        self, on_line: Callable[[bytes | bytearray], None], on_end: Callable[[str], None], limit: int
    ) -> None:
        self._on_line = on_line
        self._on_end = on_end
        self._limit = limit
        self._buffer = bytearray()
        self._stopped = False

    def data_received(self, data: bytes) -> None:
        if self._stopped:
            return
        end = data.rfind(b"\n")
        if end < 0:
            self._keep(data)
            return
        if self._buffer:
            first = data.find(b"\n")
            self._buffer += data[:first]
            whole, self._buffer = self._buffer, bytearray()
            self._on_line(whole)
            lines = data[first + 1 : end].split(b"\n") if end > first else []
        else:
            lines = data[:end].split(b"\n")
        for line in lines:
            self._on_line(line)
        self._keep(data[end + 1 :])

    def _keep(self, data: bytes) -> None:
        if len(self._buffer) + len(data) > self._limit:
            self._stopped = True
            self._buffer = bytearray()
            self._on_end(
                f"sent a message of more than {self._limit} bytes, which is not allowed (max_message_mib)"
            )
        else:
            self._buffer += data

    def connection_lost(self, exc: Exception | None) -> None:
        if self._buffer and not self._stopped:
            self._on_line(self._buffer)  # the last line may lack its end
        self._stopped = True
        self._buffer = bytearray()
        self._on_end("")


class Flow(asyncio.BaseProtocol):
    """Tells when the server reads no more, and when it does again."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.lost = False

    def pause_writing(self) -> None:
        self.open.clear()

    def resume_writing(self) -> None:
        self.open.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self.open.set()


class Writer(_Stream):
    """Messages to the server's standard input: the SDK's, and lines beside them."""

    def __init__(self, pipe: asyncio.WriteTransport, flow: Flow, encoding: str) -> None:
        self._pipe = pipe
        self._flow = flow
        self._encoding = encoding
        self._closed = False
        self._lock = threading.Lock()  # a line of another thread must not get between two parts of a message
        self._own_end = os.dup(pipe.get_extra_info("pipe").fileno())
        self.envelope: dict[str, Any] = {}
        """What the SDK says about itself in each request (2026-07-28); empty where the handshake has said it."""

    async def send(self, item: SessionMessage, /) -> None:
        if not self.envelope:
            self.envelope = _envelope_of(item.message)
        text = item.message.model_dump_json(by_alias=True, exclude_unset=True)
        if self._closed or self._flow.lost or self._pipe.is_closing():
            raise anyio.BrokenResourceError
        with self._lock:
            self._pipe.write(f"{text}\n".encode(self._encoding))
        if not self._flow.open.is_set():
            await self._flow.open.wait()
            if self._flow.lost:
                raise anyio.BrokenResourceError

    def write(self, line: bytes) -> bool:
        """Send a line; False if the server does not read just now, or is gone."""
        if self._closed or self._flow.lost or self._pipe.is_closing() or not self._flow.open.is_set():
            return False
        with self._lock:
            self._pipe.write(line)
        return True

    def write_now(self, line: bytes) -> bool:
        """The same from any thread, for a line that the pipe takes in one piece; False: use `write`."""
        if len(line) > select.PIPE_BUF:
            return False
        with self._lock:
            # What the transport holds back would come after this line although it was sent before.
            if self._closed or self._own_end < 0 or self._pipe.get_write_buffer_size():
                return False
            try:
                return os.write(self._own_end, line) == len(line)
            except OSError:  # full, or closed by the server
                return False

    def close(self) -> None:
        self._closed = True  # the session is over; the pipe is closed when the transport is

    def close_pipe(self) -> None:
        """Tell the server that nothing more comes."""
        with self._lock:
            own, self._own_end = self._own_end, -1
        if own >= 0:
            os.close(own)
        if self._pipe.is_closing():
            return
        if self._pipe.get_write_buffer_size():
            self._pipe.abort()  # a server that does not read would never be told of the end
        else:
            self._pipe.close()


def _envelope_of(message: Any) -> dict[str, Any]:
    # Not from the first question of all, which older servers refuse: what follows has none then.
    if getattr(message, "method", "server/discover") == "server/discover":
        return {}
    meta = (getattr(message, "params", None) or {}).get("_meta") or {}
    return {key: value for key, value in meta.items() if key.startswith(_ENVELOPE)}


class Tail(asyncio.Protocol):
    """Keeps the end of the server's standard error, and how it began: there stands what is wrong where a program tells
    its usage after it, or Node.js where it was called."""

    def __init__(self) -> None:
        self._first = bytearray()
        self._data = bytearray()
        self._cut = False
        self._done = asyncio.Event()
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._first += data[: _FIRST_BYTES - len(self._first)]
        self._data += data
        if len(self._data) > _STDERR_BYTES:
            self._cut = True
            del self._data[:-_STDERR_BYTES]

    def connection_lost(self, exc: Exception | None) -> None:
        self._done.set()

    async def wait(self, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            await self._done.wait()

    def text(self) -> str:
        lines = _lines(self._data)
        if not self._cut and len(lines) <= _FIRST_LINES + _LAST_LINES:
            return "\n".join(lines)
        return "\n".join([*_lines(self._first)[:_FIRST_LINES], "...", *lines[-_LAST_LINES:]])

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


def _lines(data: bytearray) -> list[str]:
    return data.decode("utf-8", "replace").rstrip().splitlines()

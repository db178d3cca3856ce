"""Calls of a stdio server's tools without a task: a line out, a line in, matched by its id.

A call through the SDK costs a dozen hand-overs between its tasks and two passes of validation; that is most of what
a call takes. So where a connection's life is simple (a child process), the SDK opens and keeps the connection,
and calls share its pipes under ids of their own. Everything else that arrives is the SDK's, and so is every answer
that is more than text: its models and checks read those.
"""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol

import anyio
import attrs
import msgspec
from agentd.protocols import OnProgress
from opentelemetry.trace import get_current_span

from agentd_mcp_bridge.lenient import read_json, request_id
from agentd_mcp_bridge.loop import McpLoop

__all__ = ["DirectCall", "DirectCalls", "Done", "refuses_new_revision"]

Done = Callable[[object, BaseException | None], None]
"""Takes a call's outcome, value or error, in the MCP loop, exactly once unless the call was given up."""

MAX_REQUEST_BYTES: Final = (
    64 * 1024
)  # a larger one waits for the server to read, which only the SDK's way does
_PREFIX: Final = "agentd-"
_UNINITIALIZED: Final = re.compile(
    r"(?:not|before|without|un)\W{0,3}(?:been |yet |was )*initiali[sz]", re.IGNORECASE
)
_ids: Final = itertools.count(1)


def refuses_new_revision(message: str) -> bool:
    """Tell whether a server that has agreed on 2026-07-28, which has no handshake, asks for one all the same."""
    return _UNINITIALIZED.search(message) is not None


def _nothing() -> None:
    """Where the loop of the connections has ended, nobody waits for a call any more."""


class Pipe(Protocol):
    """How to write to the server. `envelope` is what each request's `_meta` must have."""

    @property
    def envelope(self) -> Mapping[str, Any]: ...

    def write(self, line: bytes) -> bool:
        """Send a line, in the MCP loop; False if the server does not read just now."""
        ...

    def write_now(self, line: bytes) -> bool:
        """Send a short line from any thread; False if the pipe is not free."""
        ...


@attrs.define(eq=False)
class DirectCall:
    """A call under way."""

    name: str
    arguments: Mapping[str, object]
    id: str
    line: bytes
    done: Done
    on_progress: OnProgress | None
    given_up: bool = False
    scope: anyio.CancelScope | None = None
    """Set where the call goes the SDK's way after all."""


class _Head(msgspec.Struct):
    id: str | int | None = None
    method: str | None = None
    params: msgspec.Raw = msgspec.Raw()
    result: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()


class _Error(msgspec.Struct):
    code: int = 0
    message: str = ""


class _Progress(msgspec.Struct, rename="camel"):
    progress_token: str | int | None = None
    progress: float = 0.0
    total: float | None = None
    message: str | None = None


class _MessagePart(msgspec.Struct):
    type: str
    text: str = ""


class _Result(msgspec.Struct, rename="camel"):
    content: list[_MessagePart] = []
    is_error: bool = False
    structured_content: msgspec.Raw = msgspec.Raw()
    result_type: str = "complete"


_head: Final = msgspec.json.Decoder(_Head)
_error: Final = msgspec.json.Decoder(_Error)
_progress: Final = msgspec.json.Decoder(_Progress)
_result: Final = msgspec.json.Decoder(_Result)


def _request(**fields: object) -> bytes:
    return msgspec.json.encode({"jsonrpc": "2.0", **fields}) + b"\n"


class DirectCalls:
    """The calls that one life of a connection has under way. Runs in the MCP loop, but for `begin`.

    :param has_schema: whether a tool's result must be checked against its output schema.
    :param finish: makes a value of any result, the SDK's way: from its bytes, or from what they stand for.
    :param refused: makes an exception of the server's error (code, message).
    :param ask_again: makes a call once more, the SDK's way: the server wants to be told something first, or in an
        older way, and has done nothing yet; or it does not read just now.
    """

    def __init__(
        self,
        pipe: Pipe,
        loop: McpLoop,
        *,
        has_schema: Callable[[str], bool],
        finish: Callable[[str, object], Awaitable[object]],
        refused: Callable[[str, int, str], BaseException],
        ask_again: Callable[[DirectCall], None],
    ) -> None:
        self._pipe = pipe
        self._loop = loop
        self._has_schema = has_schema
        self._finish = finish
        self._refused = refused
        self._ask_again = ask_again
        self._pending: dict[str, DirectCall] = {}
        self._over = False
        self._lock = threading.Lock()

    def begin(
        self, name: str, arguments: Mapping[str, object], done: Done, on_progress: OnProgress | None
    ) -> Callable[[], None] | None:
        """Start a call, from any thread; return what gives it up, or None if it must go the SDK's way."""
        loop = self._loop
        if self._over or not loop.alive or get_current_span().get_span_context().is_valid:
            return None  # the SDK tells the server which span its own belong below
        call = self._new_call(name, arguments, done, on_progress)
        if call is None:
            return None
        if not self._send(call, self._pipe.write_now):
            loop.call_soon(self._send_in_loop, call)
        return lambda: loop.call_soon(self._give_up, call)

    def _new_call(
        self, name: str, arguments: Mapping[str, object], done: Done, on_progress: OnProgress | None
    ) -> DirectCall | None:
        """Return a call that can be sent, or None if its arguments are too large or odd."""
        ident = f"{_PREFIX}{next(_ids)}"
        params: dict[str, object] = {"name": name, "arguments": arguments}
        meta = dict(self._pipe.envelope)
        if on_progress is not None:
            meta["progressToken"] = ident
        if meta:
            params["_meta"] = meta
        try:
            line = _request(method="tools/call", params=params, id=ident)
        # The other way makes the text valid, or says what is wrong.
        except (UnicodeEncodeError, RecursionError):
            return None
        if len(line) > MAX_REQUEST_BYTES:
            return None
        return DirectCall(name, arguments, ident, line, done, on_progress)

    def _send(self, call: DirectCall, write: Callable[[bytes], bool]) -> bool:
        with self._lock:  # or a call could slip in after `lost`, and never be answered
            if self._over:
                return False
            self._pending[call.id] = call  # before the answer can come
            if write(call.line):
                return True
            del self._pending[call.id]
            return False

    def _send_in_loop(self, call: DirectCall) -> None:
        if not call.given_up and not self._send(call, self._pipe.write):
            self._ask_again(call)

    def _give_up(self, call: DirectCall) -> None:
        """Let the call go and tell the server."""
        call.given_up = True
        if self._pending.pop(call.id, None) is not None:
            params: dict[str, object] = {"requestId": call.id, "reason": "the caller has given the call up"}
            if self._pipe.envelope:
                params["_meta"] = self._pipe.envelope
            self._pipe.write(_request(method="notifications/cancelled", params=params))
        if call.scope is not None:
            call.scope.cancel()

    def refuse(self) -> None:
        """Begin no more calls: the connection is about to be closed."""
        self._over = True

    def lost(self) -> list[DirectCall]:
        """Return the calls that will not be answered any more; none is sent from now on."""
        with self._lock:
            self._over = True
            pending, self._pending = list(self._pending.values()), {}
        return pending

    def take(self, line: bytes | bytearray) -> bool:
        """Look at a line from the server; True if it was for one of these calls."""
        if not self._pending and _PREFIX.encode() not in line[:200]:
            return False
        try:
            head = _head.decode(line)
            if head.method == "notifications/progress":
                return self._progressed(_progress.decode(head.params))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return self._take_odd(line)
        if head.method is not None or not isinstance(head.id, str) or not head.id.startswith(_PREFIX):
            return False
        call = self._pending.pop(head.id, None)
        if call is not None:  # else it was given up
            self._answered(call, head)
        return True

    def _take_odd(self, line: bytes | bytearray) -> bool:
        """The same for a line that is no strict JSON: nobody else knows the ids of these calls."""
        call = self._pending.pop(str(request_id(line)), None)
        if call is None:
            return False
        try:
            answer = read_json(line)
            error, result = answer.get("error"), answer.get("result")
        except (ValueError, AttributeError) as problem:
            call.done(None, self._refused(call.name, 0, f"the server's answer cannot be read: {problem}"))
            return True
        if isinstance(error, dict):
            message = str(error.get("message") or "an error that is none")
            call.done(None, self._refused(call.name, 0, message))
        else:
            self._loop.post(lambda: self._finish_by_task(call, result), _nothing)
        return True

    def _progressed(self, said: _Progress) -> bool:
        call = self._pending.get(said.progress_token) if isinstance(said.progress_token, str) else None
        if call is None or call.on_progress is None:
            return call is not None
        call.on_progress(said.progress, said.total, said.message or "")
        return True

    def _answered(self, call: DirectCall, head: _Head) -> None:
        if bytes(head.error):
            error = _decoded(_error, head.error) or _Error(message="an error that is none")
            if refuses_new_revision(error.message):
                self._ask_again(call)
                return
            call.done(None, self._refused(call.name, error.code, error.message))
            return
        result = _decoded(_result, head.result)
        if result is not None and result.result_type == "input_required":
            self._ask_again(call)
            return
        if result is None or not _is_text(result) or self._has_schema(call.name):
            raw = bytes(head.result)
            self._loop.post(lambda: self._finish_by_task(call, raw), _nothing)
            return
        texts = [part.text for part in result.content]
        call.done(None if not texts else texts[0] if len(texts) == 1 else texts, None)

    async def _finish_by_task(self, call: DirectCall, raw: object) -> None:
        try:
            value = await self._finish(call.name, raw)
        except Exception as error:
            call.done(None, error)
        else:
            call.done(value, None)


def _decoded(decoder: msgspec.json.Decoder[Any], raw: msgspec.Raw) -> Any:
    try:
        return decoder.decode(raw)
    # The SDK's models say what is wrong with it.
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _is_text(result: _Result) -> bool:
    plain = not result.is_error and result.result_type == "complete" and not bytes(result.structured_content)
    return plain and all(part.type == "text" for part in result.content)

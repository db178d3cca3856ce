"""One call of a tool, from its arguments as JSON to its one reply."""

from __future__ import annotations

import itertools
import json
import logging
import sys
import time
from collections.abc import Callable
from contextvars import Context, copy_context
from types import GeneratorType
from typing import Any, Final, Protocol

import anyio
import attrs
from agentd._concurrency.pool import call_in_thread
from agentd.errors import (
    ToolDeniedError,
    ToolError,
    ToolInputError,
    ToolTimeoutError,
    UnknownToolError,
    suggest,
)
from agentd.events import Approval, SourceLog, ToolCall, ToolProgress
from agentd.protocols import ToolReply, ToolSource
from agentd.types import ToolSpec

from agentd_tools.call_begins import CallBegins, call_begins
from agentd_tools.calling import SourceCall, current_call, know_loop
from agentd_tools.deadlines import watcher
from agentd_tools.function import FunctionTool
from agentd_tools.loops import TaskLoop, shared_loop
from agentd_tools.naming import Binding
from agentd_tools.reports import ProgressReport
from agentd_tools.results import AS_THEY_ARE, MAX_MESSAGE_BYTES, encode_result, load_object
from agentd_tools.sources import DirectSource
from agentd_tools.threads import tool_pool

__all__ = ["Entry", "PendingCall", "error_reply"]

_log: Final = logging.getLogger("agentd.tools")
_ids: Final = itertools.count(1)
_SMALL_PARTS: Final = 200
_SMALL_BYTES: Final = 64 * 1024  # more than this is not decoded or encoded in an event loop
_EVENT_CHARS: Final = 2000
NEVER: Final = float("inf")
"""The deadline of a call while a policy asks somebody about it."""
_MESSAGE_CHARS: Final = 20_000
_TEXT: Final = (str, bytes)
_WIRE_TYPES: Final = (ToolDeniedError, ToolInputError, ToolTimeoutError, UnknownToolError)


@attrs.frozen(kw_only=True)
class Entry:
    """A tool that can be called: its name, and the function or the source behind it."""

    binding: Binding
    function: FunctionTool | None
    source: ToolSource | None
    timeout_s: float
    blocking: bool
    loop: TaskLoop | None = None  # the source's own, where its calls are carried out
    direct: DirectSource | None = None  # the source, if it can start calls by itself

    @classmethod
    def of(cls, binding: Binding, owner: FunctionTool | ToolSource, timeout_s: float) -> Entry:
        """Make an entry for a function or for a tool of a source."""
        own = binding.spec.timeout_s
        function = owner if isinstance(owner, FunctionTool) else None
        return cls(
            binding=binding,
            function=function,
            source=None if isinstance(owner, FunctionTool) else owner,
            timeout_s=timeout_s if own is None else own,
            blocking=function is not None and function.kind in ("sync", "generator"),
            loop=None if function is not None else getattr(owner, "loop", None),
            direct=owner if function is None and isinstance(owner, DirectSource) else None,
        )


class CallOwner(Protocol):
    """Who is told of a call. Neither method may raise. `session` is whose tools they are, or None."""

    session: Any

    def ended(self, call: PendingCall, reply: ToolReply) -> None:
        """A call has been answered. From any thread."""
        ...

    def tell(self, event: Approval | ToolProgress | SourceLog) -> None:
        """Something has happened meanwhile."""
        ...


class PendingCall:
    """A call on its way. A job for the pool, a deadline for the watcher, or work for an event loop.

    Only the one that takes it out of the watcher's entries replies.
    """

    __slots__ = (
        "_give_up_direct", "_reply", "_scope", "action_id", "answered", "arguments", "began", "context",
        "deadline", "decision", "entry", "has_lane", "id", "loop", "owner", "progress", "quiet", "started", "withdraw",
    )  # fmt: skip

    def __init__(
        self,
        entry: Entry,
        arguments: bytes,
        action_id: str,
        reply: Callable[[ToolReply], None],
        owner: CallOwner,
        quiet: bool = False,
    ) -> None:
        self.id = next(_ids)
        self.entry = entry
        self.arguments = arguments
        self.action_id = action_id
        self.started = self.began = time.monotonic()
        self.deadline = self.started + entry.timeout_s
        self.context = copy_context()  # what the call sets is not there in the next one
        self.answered = False
        self.decision = ""  # a policy's, about which nobody was asked
        self.withdraw: Callable[[], None] | None = None  # gives up what a policy asks somebody
        self.has_lane = False
        self.quiet = quiet  # whoever made it tells of it
        self.loop: TaskLoop | None = None
        self.owner = owner
        self._reply = reply
        self.progress: ProgressReport | None = None
        self._scope: anyio.CancelScope | None = None
        self._give_up_direct: Callable[[], None] | None = None
        _forget_loop(self.context)
        if entry.function is None:
            self.context.run(current_call.set, SourceCall(owner.session, action_id, self.event_id))
        if (begins := call_begins.get()) is not None:
            self._announce(begins)

    def _announce(self, begins: CallBegins) -> None:
        ids = (self.action_id, "") if self.quiet else (self.event_id, self.action_id)
        try:
            self.context.run(begins, ids[0], self.entry.binding.python_name, ids[1])
        except Exception:
            _log.exception("what is told of each call's beginning raised")

    @property
    def is_waiting(self) -> bool:
        """True if its tool has not been called yet: a policy asks somebody, or all threads are busy."""
        return self.deadline == NEVER or (self.entry.blocking and not self.has_lane)

    # --- the one reply -------------------------------------------------------------------------

    def _answer(self, reply: ToolReply) -> bool:
        if watcher.watched.pop(self.id, None) is None:
            return False
        self._deliver(reply)
        return True

    def _deliver(self, reply: ToolReply) -> None:
        self.answered = True
        if self.progress is not None:
            self.progress.finish()
        try:
            self._reply(reply)
        except Exception:
            _log.exception("the reply of %s() could not be delivered", self.entry.binding.python_name)
        self.owner.ended(self, reply)

    def expire(self) -> None:
        """The time is up: answer so, and give the work up. Called by the watcher."""
        name, seconds = self.entry.binding.python_name, self.entry.timeout_s
        self._deliver(error_reply(ToolTimeoutError(f"{name}() did not answer within {seconds:g} s")))
        self._give_up()

    def abort(self, error: ToolError) -> None:
        """Answer with `error`, if nothing else did before, and give the work up."""
        if self._answer(error_reply(error)):
            self._give_up()

    def lost(self) -> None:
        """The event loop that should have run this is gone."""
        name = self.entry.binding.python_name
        self._answer(error_reply(ToolError(f"{name}() was given up: its event loop has ended")))

    def _give_up(self) -> None:
        if self.withdraw is not None:
            self.withdraw()
        if self._give_up_direct is not None:
            self._give_up_direct()
        elif self.loop is not None:
            # At once, if this is its loop: nothing more is begun when whoever gives it up has gone on.
            self._cancel() if self.loop.is_here() else self.loop.call_soon(self._cancel)
        elif self.entry.blocking:
            tool_pool.write_off(self)  # a thread cannot be stopped, only not counted

    def _cancel(self) -> None:
        if self._scope is not None:
            self._scope.cancel()

    def event(self, reply: ToolReply) -> ToolCall:
        """Return the finished call as an event, arguments and result cut to a readable length."""
        return ToolCall(
            id=self.event_id,
            name=self.entry.binding.python_name,
            arguments=_readable(self.arguments),
            result=_readable(reply.payload),
            status="completed" if reply.ok else "failed",
            code_id=self.action_id,
            wall_s=time.monotonic() - self.started,
            decision=self.decision,
        )

    def _report(self, done: float, total: float | None = None, message: str = "") -> None:
        """Take the source's word on how far it is. Most calls never say a thing."""
        if self.progress is None:
            name = self.entry.binding.python_name
            self.progress = ProgressReport(self.event_id, name, self.action_id, self.owner.tell)
        if not self.answered:
            self.progress(done, total, message)

    @property
    def event_id(self) -> str:
        """Return what its events call it."""
        return f"call_{self.id}"

    # --- in a thread of the pool ---------------------------------------------------------------

    def run(self) -> None:
        """Call a blocking function and reply."""
        if self.answered:
            return
        self.began = time.monotonic()  # `started` is before it waited for a thread
        function, name = self.entry.function, self.entry.binding.python_name
        assert function is not None
        try:
            positional, named = function.arguments(self.arguments, name)
            if len(self.arguments) > _SMALL_BYTES:
                self._shorten()
            result = self.context.run(function.function, *positional, **named)
            if type(result) not in AS_THEY_ARE:  # most are
                if isinstance(result, GeneratorType):
                    result = self.context.run(list, result)
                elif hasattr(type(result), "__await__"):
                    self._go_on_async(result)
                    return
            reply = ToolReply(True, encode_result(result, name))
        except BaseException as error:  # SystemExit in a tool is the tool's failure, not the pool's
            reply = failure(error, name)
        self._answer(reply)

    def _go_on_async(self, awaitable: Any) -> None:
        """A plain function has returned something to await: do that on the process's loop."""

        async def wait() -> None:
            know_loop()

            async def value() -> object:
                return await awaitable

            await self._run_scoped(value)

        self.loop = shared_loop()
        self.loop.post(wait, self.lost, self.context)

    # --- by the source itself ------------------------------------------------------------------

    def begin(self) -> bool:
        """Have the source start the call, if it can do that by itself; False: it needs a task."""
        direct = self.entry.direct
        if direct is None or len(self.arguments) > _SMALL_BYTES:
            return False
        name, spec = self.entry.binding.python_name, self.entry.binding.spec
        try:
            arguments = load_object(name, self.arguments)
            check_names(spec, name, arguments)
        except ToolError as error:
            self._answer(error_reply(error))
            return True
        self._give_up_direct = self.context.run(direct.begin, spec.name, arguments, self._done, self._report)
        return self._give_up_direct is not None

    def _done(self, value: object, error: BaseException | None) -> None:
        if self.answered:
            return
        name = self.entry.binding.python_name
        if error is None and not _is_small(value):
            tool_pool.submit(_Encoding(self, value))
            return
        try:
            if error is not None:
                raise error
            reply = ToolReply(True, encode_result(value, name))
        except BaseException as raised:  # this is an I/O thread, which serves others, too
            reply = failure(raised, name)
        self._answer(reply)

    # --- as a task of an event loop ------------------------------------------------------------

    async def run_async(self) -> None:
        """Call an async function or a source and reply."""
        know_loop()
        await self._run_scoped(self._value)

    async def _run_scoped(self, value: Callable[[], Any]) -> None:
        if self.answered:
            return
        with anyio.CancelScope() as scope:
            self._scope = scope
            name = self.entry.binding.python_name
            try:
                result = await value()
                reply = await self._encode(result, name)
            except anyio.get_cancelled_exc_class():
                # ours (answered already), the loop's end, or the tool's own doing
                self._answer(error_reply(ToolError(f"{name}() was given up: it was cancelled")))
                raise
            except BaseException as error:  # GeneratorExit, say: it is this call that has failed
                reply = failure(error, name)
            self._answer(reply)

    async def _value(self) -> object:
        function, source = self.entry.function, self.entry.source
        name = self.entry.binding.python_name
        if function is None:
            assert source is not None
            arguments = await self._decode(lambda: load_object(name, self.arguments))
            self._shorten()
            check_names(self.entry.binding.spec, name, arguments)
            return await source.call(self.entry.binding.spec.name, arguments, on_progress=self._report)
        positional, named = await self._decode(lambda: function.arguments(self.arguments, name))
        self._shorten()
        if function.kind == "async_generator":
            return [item async for item in function.function(*positional, **named)]
        return await function.function(*positional, **named)

    def _shorten(self) -> None:
        """Let go of large arguments, which are there a second time now; what an event shows of them stays."""
        if len(self.arguments) > _SMALL_BYTES:
            self.arguments = self.arguments[: _EVENT_CHARS * 8]

    async def _decode(self, decode: Callable[[], Any]) -> Any:
        return decode() if len(self.arguments) <= _SMALL_BYTES else await call_in_thread(decode)

    async def _encode(self, result: object, name: str) -> ToolReply:
        def encode() -> ToolReply:
            return ToolReply(True, encode_result(result, name))

        if _is_small(result):
            return encode()
        return await call_in_thread(encode)  # how large it is, only encoding it tells


class _Encoding:
    """A large result on its way to be encoded by a thread of the pool."""

    def __init__(self, call: PendingCall, value: object) -> None:
        self.call = call
        self.value = value

    def run(self) -> None:
        name = self.call.entry.binding.python_name
        try:
            reply = ToolReply(True, encode_result(self.value, name))
        except BaseException as error:
            reply = failure(error, name)
        self.call._answer(reply)


def _is_small(result: object) -> bool:
    """Tell whether a result of plain dicts, lists and scalars is quick to encode, without a long look."""
    if isinstance(result, _TEXT):
        return len(result) <= _SMALL_BYTES
    waiting = [result]
    for _ in range(_SMALL_PARTS):
        if not waiting:
            return True
        part = waiting.pop()
        if type(part) is dict and len(part) <= _SMALL_PARTS:
            waiting += part.values()
        elif type(part) is list and len(part) <= _SMALL_PARTS:
            waiting += part
        elif isinstance(part, str | bytes):
            if len(part) > _SMALL_BYTES // 8:
                return False
        elif part is not None and not isinstance(part, int | float):
            return False
    return False


def _forget_loop(context: Context) -> None:
    """Which loop runs the caller says nothing of the thread, or the loop, that runs the tool."""
    sniffio = sys.modules.get("sniffio")
    if sniffio is not None and context.get(sniffio.current_async_library_cvar) is not None:
        context.run(sniffio.current_async_library_cvar.set, None)


def check_names(spec: ToolSpec, name: str, arguments: dict[str, Any]) -> None:
    """Refuse missing and unknown arguments of a source's tool, as far as its schema says."""
    properties = spec.input_schema.get("properties")
    required = spec.input_schema.get("required")
    known = list(properties) if isinstance(properties, dict) else []
    wanted = [r for r in required if isinstance(r, str)] if isinstance(required, list) else []
    problems = [f"argument {r!r} is missing" for r in wanted if r not in arguments]
    if spec.input_schema.get("additionalProperties") is False:
        problems += [f"unknown argument {a!r}{suggest(a, known)}" for a in arguments if a not in known]
    if problems:
        raise ToolInputError(f"{name}(): {'; '.join(problems)}")


def failure(error: BaseException, name: str) -> ToolReply:
    """Return the reply for an exception of a tool; the traceback stays on the host, in the debug log."""
    if isinstance(error, ToolError):
        return error_reply(error)
    _log.debug("the tool %s() raised", name, exc_info=error)
    try:
        text = str(error)
    except BaseException:  # an exception may be as broken as the tool
        text = ""
    kind = type(error).__name__
    return error_reply(ToolError(f"{name}() raised {kind}: {text}" if text else f"{name}() raised {kind}"))


def error_reply(error: ToolError) -> ToolReply:
    """Return an error as it goes over the wire: `{"type": ..., "message": ...}`, and `data` if it has any."""
    kind = next((c.__name__ for c in _WIRE_TYPES if isinstance(error, c)), "ToolError")
    message = str(error)
    if len(message) > _MESSAGE_CHARS:
        message = f"{message[:_MESSAGE_CHARS]}... ({len(message)} characters)"
    said: dict[str, object] = {"type": kind, "message": message}
    if error.data is not None:
        said["data"] = error.data
    try:
        payload = json.dumps(said).encode()
    except (TypeError, ValueError, RecursionError):  # of a tool of the host's own, whose data is no JSON
        payload = b""
    if not 0 < len(payload) <= MAX_MESSAGE_BYTES:
        payload = json.dumps({"type": kind, "message": message}).encode()
    return ToolReply(False, payload)


def _readable(data: bytes) -> str:
    text = data[: _EVENT_CHARS * 4].decode("utf-8", "replace")
    return (
        text if len(text) <= _EVENT_CHARS and len(data) <= _EVENT_CHARS * 4 else f"{text[:_EVENT_CHARS]}..."
    )

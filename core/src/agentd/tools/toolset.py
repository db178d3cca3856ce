"""The host side of tool calls: which tools there are, and carrying out a call.

Blocking functions run side by side in the process's worker threads, async ones as tasks on the session's
event loop (see `ToolSet.serve`), or on the process's own loop where no session serves. Every call gets
exactly one reply: its result, its error, or its time-out, whichever is first.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import anyio
import attrs
from anyio.abc import TaskStatus

from agentd.errors import AgentdError, ToolError, ToolInputError, ToolTimeoutError, UnknownToolError
from agentd.eventloop import loop_caller
from agentd.events import ToolCall
from agentd.protocols import ToolReply, ToolSource
from agentd.tools.call import Call, Entry, error_reply
from agentd.tools.decorator import decorated_tools
from agentd.tools.loops import TaskLoop, shared_loop
from agentd.tools.naming import Binding, bind
from agentd.tools.pool import pool, watcher
from agentd.tools.results import MAX_MESSAGE_BYTES
from agentd.types import ToolSpec

__all__ = ["ToolSet"]

_log: Final = logging.getLogger("agentd.tools")
QUICK_S: Final = 0.001
_ERRORS: Final[dict[str, type[ToolError]]] = {
    "ToolInputError": ToolInputError,
    "ToolTimeoutError": ToolTimeoutError,
}


class ToolSet:
    """The tools of one session. Implements `agentd.protocols.ToolDispatcher`.

    :param functions: functions, bound methods, callable objects; None takes all that `@tool` has marked,
        including those marked later (see `update`).
    :param sources: where more tools come from; listed by `start`.
    :param timeout_s: seconds that one call may take, where the tool itself does not say.
    :param max_workers: how many blocking tools of this set run at once; the others wait.
    :param on_call: told about every finished call, from whatever thread ended it.
    :raises ConfigError: naming function and parameter, if a function cannot be a tool.
    """

    def __init__(
        self,
        functions: Iterable[Callable[..., Any]] | None = None,
        sources: Sequence[ToolSource] = (),
        *,
        timeout_s: float = 60.0,
        max_workers: int = 32,
        on_call: Callable[[ToolCall], None] | None = None,
    ) -> None:
        self.timeout_s = timeout_s
        self.on_call = on_call
        self.on_change: Callable[[], None] | None = None
        """Called, from any thread, when a source says that its list has changed; then await `refresh`."""
        self.failures: dict[str, Exception] = {}
        """Sources that could not be listed, by name, after `start(strict=False)`."""
        self._all_decorated = functions is None
        self._functions = decorated_tools() if functions is None else tuple(functions)
        self._sources = _with_unique_names(sources)
        self._listed: dict[str, tuple[ToolSpec, ...]] = {}
        self._lanes = _Lanes(max_workers)
        self._loop: TaskLoop | None = None
        self._live: set[Call] = set()
        self._quick: set[str] = set()  # blocking tools whose last call was quick, by Python name
        self._closed = False
        self._catalog: bytes | None = None
        self._rebuild()

    # --- what tools there are ------------------------------------------------------------------

    @property
    def bindings(self) -> tuple[Binding, ...]:
        """The tools with their Python names; functions first, then each source's in its order."""
        return self._bindings

    def specs(self) -> tuple[ToolSpec, ...]:
        """Return the tools as their sources describe them, in the order of `bindings`."""
        return tuple(b.spec for b in self._bindings)

    def catalog(self) -> bytes:
        """Return the tools as a JSON array of name, source, tool, description and schemas."""
        if self._catalog is None:
            self._catalog = f"[{', '.join(_catalog_entry(b) for b in self._bindings)}]".encode()
        return self._catalog

    async def start(self, *, strict: bool = True) -> None:
        """Ask every source for its tools, all at once.

        :param strict: let the first failure out; otherwise keep each in `failures` and go on.
        """
        failures: dict[str, Exception] = {}
        async with anyio.create_task_group() as group:
            for name, source in self._sources.items():
                group.start_soon(self._list, name, source, failures)
        self.failures = failures
        if strict and failures:
            name, error = next(iter(failures.items()))
            if isinstance(error, AgentdError):
                raise error
            raise ToolError(f"the tools of {name!r} could not be listed: {error}") from error
        self._rebuild()

    async def refresh(self, *, strict: bool = False) -> bool:
        """Ask again, functions included; tell whether any tool has changed."""
        before = self._bindings
        if self._all_decorated:
            self._functions = decorated_tools()
        await self.start(strict=strict)
        return self._bindings != before

    def update(self) -> bool:
        """Take in functions that `@tool` marked since, if this set has them all; tell whether it changed."""
        if not self._all_decorated or (functions := decorated_tools()) == self._functions:
            return False
        self._functions = functions
        self._rebuild()
        return True

    async def _list(self, name: str, source: ToolSource, failures: dict[str, Exception]) -> None:
        try:
            specs = await source.list_tools(_Host(self, name))
        except Exception as error:  # a source is a plugin's: keep its error, not its trouble
            _log.debug("listing the tools of %r failed", name, exc_info=True)
            failures[name] = error
            return
        self._listed[name] = tuple(attrs.evolve(s, source=name) for s in specs)

    def _source_changed(self) -> None:
        if self.on_change is not None:
            self.on_change()

    def _rebuild(self) -> None:
        from agentd.tools.function import described

        functions = [described(f) for f in self._functions]
        specs = [f.spec for f in functions]
        owners: list[Any] = list(functions)
        for name, source in self._sources.items():  # their order, not that of their answers
            listed = self._listed.get(name, ())
            specs += listed
            owners += [source] * len(listed)
        self._bindings = bind(specs)
        entries: dict[str, Entry] = {}
        for binding, owner in zip(self._bindings, owners, strict=True):
            entries[binding.python_name] = Entry.of(binding, owner, self.timeout_s)
        for entry in list(entries.values()):  # a tool's own name works too, where no other has it
            entries.setdefault(entry.binding.spec.name, entry)
        self._catalog = None
        self._entries = entries

    # --- carrying out calls --------------------------------------------------------------------

    async def serve(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Run this set's async tools on the current event loop, until cancelled.

        `await group.start(tools.serve)` in the session's task group. Calls that run when it is cancelled
        are answered with an error.
        """
        self._loop = loop = TaskLoop()
        try:
            await loop.serve(task_status=task_status)
        finally:
            self._loop = None

    def submit(
        self,
        name: str,
        arguments: bytes,
        action_id: str,
        reply: Callable[[ToolReply], None],
        *,
        may_hand_back: bool = False,
    ) -> Callable[[], None] | None:
        """Start a call; returns at once. `reply` is called exactly once, from any thread.

        With `may_hand_back`, a blocking tool whose last call took less than a millisecond is not started:
        the function that does so is returned, and the caller runs it.
        """
        if may_hand_back and name in self._quick:
            call = self._begin(name, arguments, action_id, reply, start=False)
            return None if call is None else call.run
        self._begin(name, arguments, action_id, reply)
        return None

    def _begin(
        self,
        name: str,
        arguments: bytes,
        action_id: str,
        reply: Callable[[ToolReply], None],
        *,
        start: bool = True,
    ) -> Call | None:
        entry = self._entries.get(name)
        if entry is None:
            reply(error_reply(UnknownToolError(name, [b.python_name for b in self._bindings])))
            return None
        if self._closed or len(arguments) > MAX_MESSAGE_BYTES:
            reply(error_reply(self._refusal(entry, len(arguments))))
            return None
        call = Call(entry, arguments, action_id, reply, self._ended)
        self._live.add(call)
        watcher.watch(call.id, call)
        if not start:
            pass
        elif entry.blocking:
            self._lanes.start(call)
        else:
            loop = self._loop or shared_loop()
            call.loop = loop
            loop.post(call.run_async, call.lost)
        return call

    def _refusal(self, entry: Entry, size: int) -> ToolError:
        name = entry.binding.python_name
        if self._closed:
            return ToolError(f"{name}() cannot be called any more: the session has ended")
        return ToolInputError(
            f"{name}(): the arguments are {size} bytes of JSON; at most {MAX_MESSAGE_BYTES} fit"
        )

    def _ended(self, call: Call, reply: ToolReply) -> None:
        self._live.discard(call)
        if call.entry.blocking:
            self._lanes.release(call)
            name = call.entry.binding.python_name
            if time.monotonic() - call.began < QUICK_S:
                self._quick.add(name)
            else:
                self._quick.discard(name)
        if self.on_call is not None:
            try:
                self.on_call(call.event(reply))
            except Exception:
                _log.exception("on_call of the tool set raised")

    async def call_json(self, name: str, arguments: bytes, *, action_id: str = "") -> ToolReply:
        """Carry out a call and return the reply. Cancelling gives the call up."""
        replies: list[ToolReply] = []
        answered = anyio.Event()
        call_soon = loop_caller()

        def reply(value: ToolReply) -> None:
            replies.append(value)
            try:
                call_soon(answered.set)
            except RuntimeError:  # the loop that waited is closed
                pass

        call = self._begin(name, arguments, action_id, reply)
        try:
            await answered.wait()
        finally:
            if call is not None and not replies:
                call.abort(ToolError(f"{name}() was given up: its caller was cancelled"))
        return replies[0]

    def call_json_sync(self, name: str, arguments: bytes, *, action_id: str = "") -> ToolReply:
        """The same from a plain thread (not from the event loop that serves this set)."""
        replies: list[ToolReply] = []
        answered = threading.Event()

        def reply(value: ToolReply) -> None:
            replies.append(value)
            answered.set()

        self._begin(name, arguments, action_id, reply)
        answered.wait()
        return replies[0]

    async def call(self, name: str, arguments: Mapping[str, object]) -> object:
        """Call a tool and return its result as plain JSON data; raises `ToolError`."""
        self._check_known(name)
        return _unpack(await self.call_json(name, _pack(name, arguments)))

    def call_sync(self, name: str, arguments: Mapping[str, object]) -> object:
        """The same from a plain thread."""
        self._check_known(name)
        return _unpack(self.call_json_sync(name, _pack(name, arguments)))

    def _check_known(self, name: str) -> None:
        if name not in self._entries:
            raise UnknownToolError(name, [b.python_name for b in self._bindings])

    # --- the end -------------------------------------------------------------------------------

    def close(self) -> None:
        """Answer the running calls with an error and refuse new ones. Sources stay open."""
        self._closed = True
        for call in list(self._live):
            call.abort(ToolError(f"{call.entry.binding.python_name}() was given up: the session has ended"))

    async def aclose(self) -> None:
        """The same, then close the sources, each whatever the others do."""
        self.close()
        for name, source in self._sources.items():
            try:
                await source.aclose()
            except Exception:
                _log.exception("closing the tool source %r failed", name)


@attrs.frozen
class _Host:
    """What one source of a set may tell it. See `agentd.protocols.SourceHost`."""

    tools: ToolSet
    source: str

    def changed(self) -> None:
        self.tools._source_changed()

    def log(self, level: str, text: str) -> None:
        _log.debug("%s: %s: %s", self.source, level, text)


class _Lanes:
    """Lets at most `limit` blocking calls of one set into the pool; the rest wait in order."""

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._lock = threading.Lock()
        self._waiting: deque[Call] = deque()

    def start(self, call: Call) -> None:
        with self._lock:
            if self._free <= 0:
                self._waiting.append(call)
                return
            self._free -= 1
            call.has_lane = True
        pool.submit(call)

    def release(self, call: Call) -> None:
        """Take back the lane of an answered call, if it had one, and give it to the next that waits."""
        following = None
        with self._lock:
            call.answered = True
            if not call.has_lane:
                return
            while self._waiting and following is None:
                candidate = self._waiting.popleft()
                following = None if candidate.answered else candidate
            if following is None:
                self._free += 1
            else:
                following.has_lane = True
        if following is not None:
            pool.submit(following)


def _with_unique_names(sources: Sequence[ToolSource]) -> dict[str, ToolSource]:
    """Key sources by name; of two with one name, the later is called NAME-2."""
    named: dict[str, ToolSource] = {}
    for source in sources:
        name, number = source.name, 1
        while name in named or name == "local":
            number += 1
            name = f"{source.name}-{number}"
        named[name] = source
    return named


def _catalog_entry(binding: Binding) -> str:
    spec = binding.spec
    entry = {
        "name": binding.python_name,
        "source": spec.source,
        "tool": spec.name,
        "description": spec.description,
        "input_schema": spec.input_schema,
        "output_schema": spec.output_schema,
    }
    try:
        return json.dumps(entry)
    except RecursionError:  # a schema nested too deep; the tool can be called all the same
        return json.dumps({**entry, "input_schema": {"type": "object"}, "output_schema": None})


def _pack(name: str, arguments: Mapping[str, object]) -> bytes:
    try:
        return json.dumps(dict(arguments), allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise ToolInputError(f"{name}(): the arguments are no JSON: {error}") from None


def _unpack(reply: ToolReply) -> object:
    data = json.loads(reply.payload)
    if reply.ok:
        return data
    error = _ERRORS.get(data["type"], ToolError)(data["message"])
    raise error

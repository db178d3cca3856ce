"""The host side of tool calls: which tools there are, and carrying out a call.

Blocking functions run side by side in the process's worker threads, async ones as tasks on the session's
event loop (see `ToolSet.serve`), or on the process's own loop where no session serves. Every call gets
exactly one reply: its result, its error, or its time-out, whichever is first.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import anyio
from agentd._concurrency.waiting import AsyncWaiter
from agentd.errors import ToolDeniedError, ToolError, ToolInputError, ToolTimeoutError, UnknownToolError
from agentd.events import Approval, SourceLog, ToolCall, ToolProgress
from agentd.protocols import ToolReply, ToolSource
from agentd.types import ToolSpec
from anyio.abc import TaskStatus

from agentd_tools.blobs import decode_json
from agentd_tools.call import Entry, PendingCall, error_reply
from agentd_tools.call_gate import CallGate
from agentd_tools.deadlines import watcher
from agentd_tools.lanes import Lanes
from agentd_tools.listing import Listing
from agentd_tools.loops import TaskLoop, shared_loop
from agentd_tools.naming import Binding
from agentd_tools.policy import SessionPolicy
from agentd_tools.reports import Tell
from agentd_tools.results import MAX_MESSAGE_BYTES
from agentd_tools.shelf import close_sources

__all__ = ["ToolSet"]

_log: Final = logging.getLogger("agentd.tools")
QUICK_S: Final = 0.001
REFRESH_S: Final = 30.0
"""How long a source may take to list its tools again; after that the old ones stay."""
_ERRORS: Final[dict[str, type[ToolError]]] = {
    "ToolDeniedError": ToolDeniedError,
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
    :param on_event: told what sources report meanwhile, from any thread, at a bounded rate.
    :param policy: asked about each call before it is carried out.
    :param pictures: sees each reply before its caller does (`agentd.protocols.ToolEvents`).
    :param session: whose tools these are, for sources that open sessions themselves (`agentd_tools.calling`).
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
        on_event: Tell | None = None,
        policy: SessionPolicy | None = None,
        pictures: Any = None,
        session: Any = None,
    ) -> None:
        self.session = session
        self.timeout_s = timeout_s
        self.on_call = on_call
        self.on_event = on_event
        self._gate = None if policy is None else CallGate(policy, self._start)
        self._pictures = pictures
        self.on_change: Callable[[], None] | None = None
        """Called, from any thread, when a source says that its list has changed; then await `refresh`."""
        self._stale: set[str] = set()
        self._lanes = Lanes(max_workers)
        self._loop: TaskLoop | None = None
        self._quick: set[str] = set()  # blocking tools whose last call was quick, by Python name
        self._at_hand: PendingCall | None = None  # the call that who submitted it runs itself
        self._closed = False
        _sets.add(self)
        self._tools = Listing(
            functions, sources, timeout_s=timeout_s, changed=self._source_changed, tell=self.tell
        )

    # --- what tools there are ------------------------------------------------------------------

    @property
    def bindings(self) -> tuple[Binding, ...]:
        """The tools with their Python names: functions, then `resources`, then each source's in its order."""
        return self._tools.bindings

    @property
    def failures(self) -> dict[str, Exception]:
        """The sources that could not be listed the last time, by name."""
        return self._tools.failures

    @property
    def has_changes(self) -> bool:
        """Whether a source has said that its list has changed, and was not asked again since."""
        return bool(self._stale)

    def specs(self) -> tuple[ToolSpec, ...]:
        """Return the tools as their sources describe them, in the order of `bindings`."""
        return tuple(b.spec for b in self._tools.bindings)

    def name_of(self, source: ToolSource, tool: str) -> str | None:
        """Return the name under which a source's tool can be called, or None."""
        return self._tools.name_of(source, tool)

    def instructions(self) -> dict[str, str]:
        """Return the sources' own texts on how their tools belong together, by the source's name."""
        return self._tools.instructions()

    def catalog(self) -> bytes:
        """Return the tools as a JSON array of name, source, tool, description and schemas."""
        return self._tools.catalog()

    async def start(self, *, strict: bool = True) -> None:
        """Ask every source for its tools, all at once.

        :param strict: let the first failure out; otherwise keep each in `failures` and go on.
        """
        await self._tools.ask(strict=strict)

    async def refresh(self, *, strict: bool = False, changed_only: bool = False) -> bool:
        """Ask again, functions included; tell whether any tool has changed. Calls under way go on.

        A source that fails keeps the tools that it had, and its error is in `failures`.

        :param changed_only: ask only the sources that said so since they were last asked.
        """
        before = self.bindings
        self._tools.update()
        stale = set(self._stale)
        self._stale -= stale  # what is said from now on is said again
        await self._tools.ask(stale if changed_only else None, strict=strict, within_s=REFRESH_S)
        return self.bindings != before

    async def replace(
        self, functions: Iterable[Callable[..., Any]] | None, sources: Sequence[ToolSource]
    ) -> None:
        """Have these functions and sources from now on. Only sources that are new are asked; if one of them
        fails, its error is raised and nothing has changed. What is left out is not closed."""
        await self._tools.replace(functions, sources)

    def update(self) -> bool:
        """Take in functions that `@tool` marked since, if this set has them all; tell whether it changed."""
        changed = self._tools.update()
        if changed:
            self._tools.build()
        return changed

    def log(self, source: str, level: str, text: str) -> None:
        """Log something in the name of a source."""
        self._tools.log(source, level, text)

    def _source_changed(self, name: str) -> None:
        self._stale.add(name)
        if self.on_change is not None:
            self.on_change()

    def tell(self, event: Approval | ToolProgress | SourceLog) -> None:
        """Pass on what happens meanwhile."""
        if self.on_event is not None:
            try:
                self.on_event(event)
            except Exception:
                _log.exception("on_event of the tool set raised")

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
            return None if call is None else partial(self._run_at_hand, call)
        self._begin(name, arguments, action_id, reply)
        return None

    def _run_at_hand(self, call: PendingCall) -> None:
        """Run a call that was handed back. One at a time and with a lane, as in the pool: if the call before it still
        runs, its thread has been replaced, and the tool is not quick any more."""
        if self._at_hand is not None or not self._lanes.take(call):
            self._quick.discard(call.entry.binding.python_name)
            self._lanes.start(call)
            return
        self._at_hand = call
        try:
            call.run()
        finally:
            self._at_hand = None

    def _begin(
        self,
        name: str,
        arguments: bytes,
        action_id: str,
        reply: Callable[[ToolReply], None],
        *,
        start: bool = True,
        quiet: bool = False,
    ) -> PendingCall | None:
        entry = self._tools.entries.get(name)
        if entry is None:
            reply(error_reply(UnknownToolError(name, [b.python_name for b in self._tools.bindings])))
            return None
        if self._closed or len(arguments) > MAX_MESSAGE_BYTES:
            reply(error_reply(self._refusal(entry, len(arguments))))
            return None
        taker = reply
        if self._pictures is not None:
            reply = self._pictures.watching(entry.source, action_id, reply)
        call = PendingCall(entry, arguments, action_id, reply, self, quiet)
        watcher.watched[call.id] = call
        if self._gate is not None and not self._gate.admits(call, taker):
            return call if start else None
        if start:
            self._start(call)
        elif call.deadline < watcher.next_look:
            watcher.look_sooner()
        return call

    def _start(self, call: PendingCall) -> None:
        if call.deadline < watcher.next_look:
            watcher.look_sooner()
        entry = call.entry
        if entry.blocking:
            self._lanes.start(call)
        elif not call.begin():
            loop = entry.loop or self._loop or shared_loop()
            call.loop = loop
            loop.post(call.run_async, call.lost, call.context)

    def _refusal(self, entry: Entry, size: int) -> ToolError:
        name = entry.binding.python_name
        if self._closed:
            return ToolError(f"{name}() cannot be called any more: the session has ended")
        return ToolInputError(
            f"{name}(): the arguments are {size} bytes of JSON; at most {MAX_MESSAGE_BYTES} fit"
        )

    def ended(self, call: PendingCall, reply: ToolReply) -> None:
        """Take notice of an answered call, in the thread that has answered it."""
        if call.entry.blocking:
            self._lanes.release(call)
            name = call.entry.binding.python_name
            if time.monotonic() - call.began < QUICK_S:
                self._quick.add(name)
            else:
                self._quick.discard(name)
        if self.on_call is not None and not call.quiet:
            try:
                self.on_call(call.event(reply))
            except Exception:
                _log.exception("on_call of the tool set raised")

    async def call_json(
        self, name: str, arguments: bytes, *, action_id: str = "", quiet: bool = False
    ) -> ToolReply:
        """Carry out a call and return the reply. Cancelling gives the call up.

        :param quiet: the caller itself tells of the call: `on_call` does not hear of it.
        """
        replies: list[ToolReply] = []
        answered = AsyncWaiter()

        def reply(value: ToolReply) -> None:
            replies.append(value)
            answered.set()

        call = self._begin(name, arguments, action_id, reply, quiet=quiet)
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
        """Call a tool and return its result as plain JSON data and `Blob`s; raises `ToolError`."""
        self._check_known(name)
        return _unpack(await self.call_json(name, _pack(name, arguments)))

    def call_sync(self, name: str, arguments: Mapping[str, object]) -> object:
        """The same from a plain thread."""
        self._check_known(name)
        return _unpack(self.call_json_sync(name, _pack(name, arguments)))

    def _check_known(self, name: str) -> None:
        if name not in self._tools.entries:
            raise UnknownToolError(name, [b.python_name for b in self._tools.bindings])

    # --- the end -------------------------------------------------------------------------------

    def give_up(self, run: str) -> None:
        """Cancel the calls under way whose action ids begin with `run` and an underscore: nobody waits any
        more."""
        for call in self._under_way():
            if call.action_id.startswith(f"{run}_"):
                call.abort(ToolError(f"{call.entry.binding.python_name}() was given up: the run has ended"))

    def give_up_waiting(self, action_id: str) -> None:
        """Give up the calls of an action that has ended, as far as they wait for somebody's permission or for a thread;
        what is being carried out goes on. From any thread."""
        for call in self._under_way():
            if call.action_id == action_id and call.is_waiting:
                call.abort(ToolError(f"{call.entry.binding.python_name}() was given up: its block has ended"))

    def _under_way(self) -> list[PendingCall]:
        return [c for c in list(watcher.watched.values()) if isinstance(c, PendingCall) and c.owner is self]

    def close(self) -> None:
        """Answer the running calls with an error and refuse new ones. Sources stay open."""
        self._closed = True
        for call in self._under_way():
            call.abort(ToolError(f"{call.entry.binding.python_name}() was given up: the session has ended"))

    async def aclose(self) -> None:
        """The same, then close the sources side by side, each whatever the others do; what fails is logged."""
        self.close()
        await close_sources(self._tools.sources.values())


_sets: Final[weakref.WeakSet[ToolSet]] = weakref.WeakSet()


def _forget_in_child() -> None:
    """In a forked child, calls under way are the parent's, and so are their threads and event loops."""
    for tools in list(_sets):
        tools._lanes = tools._lanes.anew()
        tools._at_hand = tools._loop = None


os.register_at_fork(after_in_child=_forget_in_child)


def _pack(name: str, arguments: Mapping[str, object]) -> bytes:
    try:
        return json.dumps(dict(arguments), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ToolInputError(f"{name}(): the arguments are no JSON: {error}") from None


def _unpack(reply: ToolReply) -> object:
    if reply.ok:
        return decode_json(reply.payload)
    data = json.loads(reply.payload)
    error = _ERRORS.get(data["type"], ToolError)(data["message"])
    error.data = data.get("data")
    raise error

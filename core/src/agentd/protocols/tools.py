"""Tools: where they come from, who holds them, and who answers calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeGuard, runtime_checkable

import attrs

from agentd.events import SourceLog, ToolCall, ToolProgress
from agentd.types import Binding, ToolSpec

__all__ = [
    "DirectSource", "OnProgress", "ResourceSource", "SourceHost", "SubscriptionSource",
    "SubscriptionState", "ToolDispatcher", "ToolEvents", "ToolReply", "ToolSource", "Toolbox",
    "Tools", "is_tool_source",
]  # fmt: skip

OnProgress = Callable[[float, float | None, str], None]
SubscriptionState = Literal["active", "changed", "lost", "unsupported"]


@attrs.frozen
class ToolReply:
    """The answer to one tool call: `ok` with the result as JSON bytes, or not ok with an error object
    `{"type": ..., "message": ...}` as JSON bytes."""

    ok: bool
    payload: bytes


class ToolDispatcher(Protocol):
    """Carries out the tool calls that arrive from running code. The host side of the bridge.

    `submit` is called from an I/O thread and must return at once; `reply` may be called from any thread,
    exactly once. `arguments` is a JSON object as bytes, not yet checked. `action_id` names the action the
    call came from, or is empty when that is unknown. With `may_hand_back` it may return a function that
    carries the call out and that the caller then runs itself: for tools that are known to be quicker than
    a change of threads.
    """

    def submit(
        self,
        name: str,
        arguments: bytes,
        action_id: str,
        reply: Callable[[ToolReply], None],
        *,
        may_hand_back: bool = False,
    ) -> Callable[[], None] | None: ...

    def catalog(self) -> bytes:
        """Return the tools as the JSON array that `GET /tools` answers with."""
        ...


class Tools(ToolDispatcher, Protocol):
    """The tools of a session as the turn loop and the renderers see them.

    `bindings` are the tools with their Python names; the same tools stay the same tuple.
    """

    @property
    def bindings(self) -> tuple[Binding, ...]: ...

    def specs(self) -> tuple[ToolSpec, ...]:
        """Return the tools as their sources describe them, in the order of `bindings`."""
        ...

    def instructions(self) -> Mapping[str, str]:
        """Return the sources' own texts on how their tools belong together, by the source's name."""
        ...

    async def call_json(
        self, name: str, arguments: bytes, *, action_id: str = "", quiet: bool = False
    ) -> ToolReply:
        """Carry out a call and return the reply. Cancelling gives the call up.

        :param quiet: the caller itself tells of the call.
        """
        ...

    async def serve(self, *, task_status: Any = ...) -> None:
        """Run async tools on the current event loop until cancelled; for `TaskGroup.start`."""
        ...


class ToolEvents(Protocol):
    """What a toolbox tells its owner, from any thread. Neither may block or raise."""

    def tell(self, event: ToolCall | ToolProgress | SourceLog) -> None:
        """Take an event of a tool: a call that is over, progress, a source's log message."""
        ...

    async def changed(self) -> bool:
        """Deal with a source's word that its list has changed; tell whether there is more to ask already."""
        ...


class Toolbox(Protocol):
    """All tools of one session or client: functions, and sources that open when they are first needed.

    Made by the hook `agentd_create_toolbox`. Only one of the async methods may run at a time.
    """

    @property
    def tools(self) -> Tools | None:
        """The tools, once `open` has found any."""
        ...

    @property
    def has_tools(self) -> bool:
        """True if there is a function or a source that tools may come from."""
        ...

    async def open(self, servers: Sequence[object] = (), *, always: bool = False) -> Tools | None:
        """Bring everything up to date; a server that fails is closed, forgotten and named in the error.

        :param servers: more of them, from now on. One that is known already is used again.
        :param always: make an (empty) set where there are no tools.
        """
        ...

    async def refresh(self) -> bool:
        """Ask the sources that said so for their tools; tell whether there is more to ask already."""
        ...

    async def settled(self) -> None:
        """Wait, within reason, until no change is being looked at."""
        ...

    def take_over(self, other: Toolbox) -> None:
        """Have the functions and servers of another toolbox as well, and its open sources in its place."""
        ...

    def give_up(self, run: str) -> None:
        """End the calls under way of a run: nobody waits for them any more."""
        ...

    async def aclose(self) -> None:
        """Close everything; `open` starts anew."""
        ...

    def close(self) -> None:
        """The same without an event loop, from any thread."""
        ...


def is_tool_source(thing: object) -> TypeGuard[ToolSource]:
    """Tell whether an object is a tool source already: it has a name and the three methods."""
    methods = (getattr(thing, name, None) for name in ("list_tools", "call", "aclose"))
    return isinstance(getattr(thing, "name", None), str) and all(map(callable, methods))


class ToolSource(Protocol):
    """Where tools come from: `@tool` functions, an MCP server, or something of a plugin's own.

    `list_tools` is called before the first call and again after `host.changed()`; the last `host` counts.
    `call` gets decoded arguments and returns a JSON-ready value, in which `Blob`s may stand; it raises
    `ToolError` with a message for the code to read, and reports how far it is by
    `on_progress(done, total or None, message)`, from any thread. All methods may be awaited from several
    event loops, one after the other or at once.

    Optional attributes, read after `list_tools`: `instructions`, a text for the model on how these tools belong
    together; `loop`, the `agentd_tools.TaskLoop` that `call` is to run on (without it: whichever loop serves
    the session's async tools).
    """

    name: str

    async def list_tools(self, host: SourceHost | None = None) -> Sequence[ToolSpec]: ...

    async def call(
        self, name: str, arguments: Mapping[str, object], on_progress: OnProgress | None = None
    ) -> object: ...

    async def aclose(self) -> None: ...


class SourceHost(Protocol):
    """What a tool source may tell whoever uses it. From any thread; never blocks, never raises."""

    def changed(self) -> None:
        """Say that the list of tools, resources or prompts has changed."""
        ...

    def log(self, level: str, text: str) -> None:
        """Pass on a log message; `level` as syslog names it (`debug` ... `emergency`)."""
        ...


@runtime_checkable
class DirectSource(Protocol):
    """What a tool source also has if a call costs it no more than passing on a message.

    `begin` starts a call without a task and returns at once, from any thread. `done(value, error)` is called from
    any thread, exactly once, unless the function that `begin` returns, which gives the call up, was called
    before. None means that this call must go through `ToolSource.call`; then `done` is never called.
    """

    def begin(
        self,
        name: str,
        arguments: Mapping[str, object],
        done: Callable[[object, BaseException | None], None],
        on_progress: OnProgress | None = None,
    ) -> Callable[[], None] | None: ...


@runtime_checkable
class ResourceSource(Protocol):
    """What a tool source also has if it offers resources and prompts (MCP's terms).

    Each list is of JSON objects with the fields that MCP gives them (`uri`, `name`, `description`,
    `mimeType`; `uriTemplate`; `name`, `description`, `arguments`). `read_resource` returns a `str` or a
    `Blob`, or a list of them where the server sends several; `get_prompt` the messages as a list of
    `{"role": ..., "content": ...}`. They raise `ToolError`.
    """

    async def list_resources(self) -> Sequence[Mapping[str, object]]: ...

    async def list_resource_templates(self) -> Sequence[Mapping[str, object]]: ...

    async def read_resource(self, uri: str) -> object: ...

    async def list_prompts(self) -> Sequence[Mapping[str, object]]: ...

    async def get_prompt(self, name: str, arguments: Mapping[str, str]) -> object: ...


@runtime_checkable
class SubscriptionSource(Protocol):
    """What a tool source also has if it can tell of changes of its resources.

    `subscribe` returns at once, from any thread, before anything was opened too; the function that it returns
    ends the subscription, once or more often. As long as one exists the source keeps its connection: it opens one
    that broke again, with back-off, without waiting for a call. `on_event` is told, from any thread but never
    from two at once:

    - `active`: changes are told from now on; the first time and after each interruption. Whoever cares for what
      happened in between reads the resource now.
    - `changed`: the resource has changed. Several changes may be told as one.
    - `lost`: the connection broke or could not be opened; told with every failed attempt, of which there will
      be more.
    - `unsupported`: there are no subscriptions to this resource, so the caller polls. After a reconnection
      another state may follow.

    `on_event` must return at once. An exception in it is logged, and the subscription goes on. Once the
    subscription or the source was ended it is not called any more, but for a call that has begun.
    """

    def subscribe(self, uri: str, on_event: Callable[[SubscriptionState], None]) -> Callable[[], None]: ...

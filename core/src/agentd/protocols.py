"""What the parts expect of each other: the structural types that plugins implement.

Plugins need not inherit anything. The objects are made by the hooks of `agentd.hookspecs`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal, Protocol, runtime_checkable

import attrs

from agentd.events import Event
from agentd.types import Action, ActionResult, OutputChunk, Segment, ToolSpec, Usage

__all__ = [
    "NO_NOTES",
    "DirectSource",
    "EventSink",
    "Executor",
    "Model",
    "ModelEvent",
    "ModelFinish",
    "ModelText",
    "ModelToolCall",
    "OnOutput",
    "OnProgress",
    "Parser",
    "ResourceSource",
    "ShellExecutor",
    "SkillRenderer",
    "SourceHost",
    "SubscriptionSource",
    "SubscriptionState",
    "ToolDispatcher",
    "ToolOffer",
    "ToolReply",
    "ToolResult",
    "ToolSource",
]

OnOutput = Callable[[OutputChunk], None]
OnProgress = Callable[[float, float | None, str], None]
SubscriptionState = Literal["active", "changed", "lost", "unsupported"]
NO_NOTES: Final[Mapping[str, str]] = MappingProxyType({})


@runtime_checkable
class Parser(Protocol):
    """Finds blocks in a model's answer, incrementally.

    One instance reads one answer. `feed` takes the next characters and returns the segments that are now
    certain; `close` ends the text and returns the rest. All segments together, in order, cover the text
    exactly once; the result is the same for every way of cutting the text; the work is linear in it. A
    parser holds back at most a partial opener, and the body of a block until its end.
    """

    def feed(self, text: str) -> Sequence[Segment]: ...

    def close(self) -> Sequence[Segment]: ...


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


@runtime_checkable
class Executor(Protocol):
    """Runs actions in a place of its own. Several actions may run at once.

    `run` raises `ExecutorError` when the action could not be carried out and returns an `ActionResult`
    otherwise, whatever the code did. `on_output` is called with every chunk as it arrives, from any
    thread; it must not block. Cancelling `run` ends the whole process tree of the action before the
    cancellation goes on. `action_id` is the caller's name for the action, given back with its tool calls.

    Optional, for snapshots of the workspace: `snapshot_exclude`, a tuple of paths relative to the workspace that are
    there for the executor's sake and no part of a snapshot, read again for each one; `pause()`, called in a worker
    thread before a restore: it ends what runs and returns once the workspace can be changed from outside, and the next
    action starts again, with a fresh shell.
    """

    workspace_dir: Path

    async def start(self) -> None:
        """Start what actions need, if it does not run. `run` does so by itself."""
        ...

    async def run(
        self, action: Action, *, action_id: str = "", on_output: OnOutput | None = None
    ) -> ActionResult: ...

    def attach(self, *, tools: ToolDispatcher | None, skills_dir: Path | None) -> None:
        """Say who answers tool calls and where the bindings are. Called again whenever the bindings change."""
        ...

    async def aclose(self) -> None:
        """End everything that still runs. May be called again."""
        ...

    def close(self) -> None:
        """The same without an event loop; also what `with` calls."""
        ...


@runtime_checkable
class ShellExecutor(Protocol):
    """What an executor also has if a session can go back to a checkpoint with its shell.

    The state is plain JSON-ready data: the current directory, exported variables (without those of the base
    environment that are unchanged), functions and options. It fits any executor of the same kind, also one
    with another workspace, whose path then takes the place of the old one.
    """

    async def shell_state(self) -> Mapping[str, object] | None:
        """Return what the next bash block starts from; None for a fresh shell."""
        ...

    async def set_shell_state(self, state: Mapping[str, object] | None) -> None:
        """Have the next bash block start from there. Raises `ExecutorError` while blocks run."""
        ...


class ToolSource(Protocol):
    """Where tools come from: `@tool` functions, an MCP server, or something of a plugin's own.

    `list_tools` is called before the first call and again after `host.changed()`; the last `host` counts.
    `call` gets decoded arguments and returns a JSON-ready value, in which `Blob`s may stand; it raises
    `ToolError` with a message for the code to read, and reports how far it is by
    `on_progress(done, total or None, message)`, from any thread. All methods may be awaited from several
    event loops, one after the other or at once.

    Optional attributes, read after `list_tools`: `instructions`, a text for the model on how these tools belong
    together; `loop`, the `agentd.tools.TaskLoop` that `call` is to run on (without it: whichever loop serves
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


class SkillRenderer(Protocol):
    """Turns tools into a directory of files that the model's code can read and import."""

    def render(
        self, tools: Sequence[ToolSpec], directory: Path, *, notes: Mapping[str, str] = NO_NOTES
    ) -> None:
        """Write what has changed, atomically, and remove what this renderer wrote before and is gone.

        `notes` are the sources' own texts on how their tools belong together, by the source's name.
        """
        ...

    def prompt(self, tools: Sequence[ToolSpec], directory: Path) -> str:
        """The part of the system prompt that describes these tools; the same text for the same tools."""
        ...


class EventSink(Protocol):
    """Receives every event of a run. An exception is reported once and the sink is then left out."""

    def emit(self, event: Event) -> None: ...

    def close(self) -> None: ...


# --- models ------------------------------------------------------------------------------------


@attrs.frozen
class ModelText:
    """A piece of the answer's text. `raw` is the provider library's own event, for a facade."""

    text: str
    raw: object = None


@attrs.frozen(kw_only=True)
class ModelFinish:
    """The answer ended with its finish marker. `reason` as the provider names it (`stop`, `length`, ...)."""

    reason: str
    usage: Usage = attrs.field(factory=Usage)
    raw: object = None


@attrs.frozen(kw_only=True)
class ModelToolCall:
    """The model calls a tool natively; given once the call is complete.

    `id` is what the result must name, `arguments` JSON text as the model wrote it, unchecked. `name` is empty
    for a call of a kind that has none (the provider's own computer tool, say). `raw` is the call in the
    provider's form, for `add_answer`.
    """

    id: str
    name: str
    arguments: str = ""
    raw: object = None


@attrs.frozen(kw_only=True)
class ToolOffer:
    """A tool as the model is told of it: `name` in the letters that every provider takes
    (`[a-zA-Z0-9_-]{1,64}`), `parameters` a JSON Schema object, `strict` if it is one that the provider can
    hold the model to."""

    name: str
    description: str = ""
    parameters: dict[str, object] = attrs.field(factory=dict)
    strict: bool = False


@attrs.frozen(kw_only=True)
class ToolResult:
    """What the model reads about one of its calls."""

    call_id: str
    output: str


ModelEvent = ModelText | ModelToolCall | ModelFinish


class Model(Protocol):
    """One conversation with a language model, in the provider's own message format.

    A session calls `start` once with the system prompt and `add_task` with each task. The loop calls `stream()`
    for the next answer, then `add_answer` with the text of it that counts (what followed the blocks is cut
    off) and the tool calls that count, then `add_results` with what the blocks gave, or `add_tool_results` with
    what the calls gave, and so on. What was sent before is never changed, so that a provider's prompt cache
    hits. A model that is only to write blocks needs neither `offer` nor `add_tool_results`. One that also has
    `reset()`, which forgets all that it was told, can be used by sessions that go back to a checkpoint.
    """

    name: str

    def start(self, instructions: str) -> None: ...

    def offer(self, tools: Sequence[ToolOffer]) -> None:
        """Say which tools the model may call natively, from the next request on, in every request."""
        ...

    def add_task(self, text: str) -> None: ...

    def stream(self) -> AbstractAsyncContextManager[AsyncIterator[ModelEvent]]:
        """Ask for the next answer. Leaving the context early closes the connection.

        Raises `ModelError` when the provider refuses and `ModelStreamError` when the stream ends
        without its finish marker.
        """
        ...

    def add_answer(self, text: str, calls: Sequence[ModelToolCall] = ()) -> None: ...

    def add_results(self, text: str) -> None: ...

    def add_tool_results(self, results: Sequence[ToolResult]) -> None:
        """Append what the calls of the last answer gave, in their order."""
        ...

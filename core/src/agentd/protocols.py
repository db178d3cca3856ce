"""What the parts expect of each other: the structural types that plugins implement.

Plugins need not inherit anything. The objects are made by the hooks of `agentd.hookspecs`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, Protocol, TypeGuard, runtime_checkable

import attrs

from agentd.events import Event, SourceLog, ToolCall, ToolProgress
from agentd.selectors import Selector
from agentd.types import (
    Action,
    ActionResult,
    Binding,
    OutputChunk,
    Segment,
    ToolSpec,
    Usage,
)

__all__ = [
    "NO_NOTES",
    "AsyncSnapshotStore",
    "DirectSource",
    "EstimatingModel",
    "EventSink",
    "Executor",
    "KeptSnapshot",
    "Layout",
    "Model",
    "ModelEvent",
    "ModelFinish",
    "ModelText",
    "ModelToolCall",
    "OnOutput",
    "OnProgress",
    "OwnedModel",
    "Parser",
    "PausableExecutor",
    "PreparingModel",
    "Requirement",
    "ResettableModel",
    "ResourceSource",
    "ShellExecutor",
    "SkillRenderer",
    "SkippingParser",
    "SnapshotExcluding",
    "SnapshotStore",
    "SourceHost",
    "StatefulExecutor",
    "SubscriptionSource",
    "SubscriptionState",
    "ToolDispatcher",
    "ToolEvents",
    "ToolOffer",
    "ToolReply",
    "ToolResult",
    "ToolSource",
    "Toolbox",
    "Tools",
    "VerifyingExecutor",
    "is_tool_source",
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
    parser holds back at most a partial opener, and the body of a block until its end. It may be a `SkippingParser`.
    """

    def feed(self, text: str) -> Sequence[Segment]: ...

    def close(self) -> Sequence[Segment]: ...


class SkippingParser(Protocol):
    """What a parser may also have, one or both, to be spared most of an answer. Without, it has the default here.

    `stops` is read whenever the parser has returned everything as prose: the source of a regular expression, or None
    (the parser must see all). It is searched in the next text with the character before it in front (at the
    beginning, and behind a block, a line feed). Text in which it is not found is prose at once, and the parser is
    given it later, in one piece with what follows. `holds` is the same for a parser that holds text back, such as a
    block that has begun: text in which it is not found is held back as well.
    """

    stops: str | None = None
    holds: str | None = None


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

    An executor may have more: see `ShellExecutor`, `StatefulExecutor`, `PausableExecutor`, `SnapshotExcluding` and
    `VerifyingExecutor`.
    """

    workspace_dir: Path

    async def start(self) -> None:
        """Start what actions need, if it does not run. `run` does so by itself."""
        ...

    async def run(
        self, action: Action, *, action_id: str = "", on_output: OnOutput | None = None
    ) -> ActionResult: ...

    def attach(self, *, tools: ToolDispatcher | None, layout: Layout | None) -> None:
        """Say who answers tool calls and where the renderer's files are. Called again whenever they change."""
        ...

    async def aclose(self) -> None:
        """End everything that still runs. May be called again."""
        ...

    def close(self) -> None:
        """The same without an event loop; also what `with` calls."""
        ...


@runtime_checkable
class StatefulExecutor(Protocol):
    """What an executor also has if it says whether Python blocks share a namespace: `fresh` (no) or `kept`."""

    state: str


@runtime_checkable
class PausableExecutor(Protocol):
    """What an executor also has if it must be stopped before files of the workspace are replaced from outside."""

    def pause(self) -> None:
        """End what runs and return once the workspace can be changed. The next action starts again, with a fresh
        shell. Called in a worker thread; may block."""
        ...


@runtime_checkable
class SnapshotExcluding(Protocol):
    """What an executor also has if it puts files into the workspace for its own sake.

    `snapshot_exclude` are their paths relative to the workspace; they are no part of a snapshot. Read again for
    each one.
    """

    @property
    def snapshot_exclude(self) -> Sequence[str]: ...


@runtime_checkable
class VerifyingExecutor(Protocol):
    """What an executor also has if it can test itself."""

    def verify(self) -> tuple[bool, str]:
        """Run something harmless and return whether it worked, and a sentence about it. Blocks."""
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


@attrs.frozen(kw_only=True)
class Layout:
    """Where a renderer's files are, for the executor that shows them to the code.

    :ivar importable: folders for PYTHONPATH, in front of what the session installs.
    :ivar programs: folders for PATH; they stand at its end, so that nothing takes a system command's place.
    :ivar preload: modules that every Python block finds imported already.
    :ivar read_only: folders that code may read and must not change, where a sandbox can see to it.
    """

    importable: tuple[Path, ...] = ()
    programs: tuple[Path, ...] = ()
    preload: tuple[str, ...] = ()
    read_only: tuple[Path, ...] = ()


class SkillRenderer(Protocol):
    """Turns tools into a directory of files that the model's code can read and import.

    `guide` is what the system prompt says in front of `prompt(...)`: how code gets at what was rendered. It does
    not depend on the tools.
    """

    guide: str

    def layout(self, directory: Path) -> Layout:
        """Return where in the directory the code finds what. Called after `render`."""
        ...

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


# --- snapshots ---------------------------------------------------------------------------------


class KeptSnapshot(Protocol):
    """One kept state of a workspace. `timestamp` is in seconds since the epoch."""

    @property
    def id(self) -> str: ...

    @property
    def label(self) -> str | None: ...

    @property
    def turn(self) -> int: ...

    @property
    def timestamp(self) -> float: ...


class SnapshotStore(Protocol):
    """The snapshots of one workspace. Blocking; called in worker threads, one call at a time.

    `wanted` is an id, a label, or a turn; the newest that fits counts. A snapshot may carry an `attachment`: bytes
    that come back as they were (a session's checkpoint keeps its transcript and shell in it). Methods raise
    `UnknownSnapshotError` for what is not there and `SnapshotError` for what fails; a restore that fails leaves
    the workspace as it was.
    """

    def snapshot(
        self, label: str | None = None, *, turn: int | None = None, attachment: bytes | None = None
    ) -> KeptSnapshot: ...

    def restore(self, wanted: Selector) -> KeptSnapshot: ...

    def copy_to(self, wanted: Selector, folder: Path) -> Path:
        """Write the snapshot into an empty or new folder outside the workspace."""
        ...

    def list_snapshots(self) -> Sequence[KeptSnapshot]:
        """Return all of them, the oldest first."""
        ...

    def has_attachment(self, id: str) -> bool: ...

    def attachment(self, id: str) -> bytes | None:
        """Return what the snapshot carries; None if it carries nothing or is gone."""
        ...

    def delete_snapshot(self, wanted: Selector) -> KeptSnapshot | None: ...


@runtime_checkable
class AsyncSnapshotStore(Protocol):
    """What a snapshot store also has if its long work can be cancelled: the same, awaited."""

    async def asnapshot(
        self, label: str | None = None, *, turn: int | None = None, attachment: bytes | None = None
    ) -> KeptSnapshot: ...

    async def arestore(self, wanted: Selector) -> KeptSnapshot: ...

    async def acopy_to(self, wanted: Selector, folder: Path) -> Path: ...

    async def adelete_snapshot(self, wanted: Selector) -> KeptSnapshot | None: ...


# --- what a plugin needs of the machine ---------------------------------------------------------


@attrs.frozen(kw_only=True)
class Requirement:
    """Something that a plugin needs and `agentd doctor` shows. `remedy` says how to get it if it is not there.

    :ivar optional: without it less works, but something does.
    """

    name: str
    ok: bool
    detail: str = ""
    remedy: str = ""
    optional: bool = False


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
    hits. A model that is only to write blocks needs neither `offer` nor `add_tool_results`. It may have more: see
    `ResettableModel`, `EstimatingModel`, `PreparingModel` and `OwnedModel`.
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


@runtime_checkable
class ResettableModel(Protocol):
    """What a model also has if sessions that use it can go back to a checkpoint."""

    def reset(self) -> None:
        """Forget everything that it was told."""
        ...


@runtime_checkable
class EstimatingModel(Protocol):
    """What a model also has if it can tell what an answer cost whose stream was closed early."""

    def estimate(self, text: str) -> Usage:
        """Return the usage of the last request, for the text that has arrived."""
        ...


@runtime_checkable
class PreparingModel(Protocol):
    """What a model also has if something can be done before the first request."""

    async def prepare(self) -> None:
        """Make the client now, say. Raises `ConfigError` and `MissingPluginError`."""
        ...


@runtime_checkable
class OwnedModel(Protocol):
    """What a model also has if it holds something of its own, closed with the session that opened the model."""

    async def aclose(self) -> None: ...

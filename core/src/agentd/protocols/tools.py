"""Tools: where they come from, who holds them, and who answers calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeGuard

import attrs

from agentd.events import Approval, SourceLog, ToolCall, ToolProgress
from agentd.protocols.models import ModelToolCall, ToolOffer
from agentd.types import Binding, Block, ToolSpec

__all__ = [
    "AnswerForm", "Offers", "OnProgress", "SourceHost", "StrictSchemas", "ToolDispatcher",
    "ToolEvents", "ToolReply", "ToolSource", "Toolbox", "Tools", "is_tool_source",
]  # fmt: skip

OnProgress = Callable[[float, float | None, str], None]


@attrs.frozen
class ToolReply:
    """The answer to one tool call: `ok` with the result as JSON bytes, or not ok with an error object
    `{"type": ..., "message": ...}` as JSON bytes."""

    ok: bool
    payload: bytes


class ToolDispatcher(Protocol):
    """Carries out the tool calls that arrive from running code. The host side of the bridge.

    `submit` is called from an I/O thread and must return at once; `reply` may be called from any thread, exactly
    once. `arguments` is a JSON object as bytes, not yet checked. `action_id` names the action the call came from, or
    is empty when that is unknown. With `may_hand_back` it may return a function that carries the call out and that
    the caller then runs itself: for tools that are known to be quicker than a change of threads.
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


class Tools(ToolDispatcher, Protocol):
    """The tools of a session as the turn loop and the renderers see them.

    `bindings` are the tools with their Python names; the same tools stay the same tuple.
    """

    @property
    def bindings(self) -> tuple[Binding, ...]: ...

    def specs(self) -> tuple[ToolSpec, ...]:
        """Return the tools as their sources describe them, in the order of `bindings`."""

    def instructions(self) -> Mapping[str, str]:
        """Return the sources' own texts on how their tools belong together, by the source's name."""

    async def call_json(
        self, name: str, arguments: bytes, *, action_id: str = "", quiet: bool = False
    ) -> ToolReply:
        """Carry out a call and return the reply. Cancelling gives the call up.

        :param quiet: the caller itself tells of the call.
        """

    async def serve(self, *, task_status: Any = ...) -> None:
        """Run async tools on the current event loop until cancelled; for `TaskGroup.start`."""


class ToolEvents(Protocol):
    """What a toolbox tells its owner, from any thread. `policy` is an `agentd_tools.policy.SessionPolicy` or None;
    `pictures` has `watching(source, action_id, reply)`, which returns what takes a call's reply, or is None."""

    policy: Any
    pictures: Any

    def tell(self, event: ToolCall | Approval | ToolProgress | SourceLog) -> None:
        """Take an event of a tool: a call that is over, progress, a source's log message."""

    async def changed(self) -> bool:
        """Deal with a source's word that its list has changed; tell whether there is more to ask already."""


class StrictSchemas(Protocol):
    """How a provider holds a model to a schema: what it must look like, and what is undone in the arguments."""

    def make(self, schema: dict[str, Any]) -> dict[str, Any] | None:
        """Return the schema in the provider's strict form; None if it cannot be had."""
        ...

    def restore(self, arguments: str, schema: Mapping[str, Any]) -> str:
        """Return a call's arguments as the tool's own schema has them."""
        ...


class Offers(Protocol):
    """What a model may call natively in one run, and how its calls are understood. `offered` is told to the model."""

    offered: tuple[ToolOffer, ...]

    def refresh(self) -> bool:
        """Take in that the tools have changed; tell whether they have."""

    def handles(self, name: str) -> bool:
        """Tell whether a call of this name is ours to answer: any but those of the caller's own tools."""

    def is_bash(self, name: str) -> bool:
        """Tell whether a call of this name is code to run."""

    def origin(self, name: str) -> tuple[str, str]:
        """Return the source of an offered tool and its own name there."""

    def refusal(self, name: str) -> str:
        """Return what the model reads about a call of a tool that there is not, or an empty string."""

    def command(self, call: ModelToolCall) -> Block:
        """Return the block that a call of the tool `bash` stands for. Raises `ToolInputError`."""

    async def run(self, call: ModelToolCall, action_id: str) -> ToolReply:
        """Carry out a call of an offered tool."""

    def text(self, reply: ToolReply) -> str:
        """Return a reply as the model reads it."""


class AnswerForm(Protocol):
    """The form of a run's last answer. `instructions` tell the model of it; None as `schema` is any JSON object."""

    schema: Mapping[str, Any] | None

    @property
    def instructions(self) -> str: ...

    def review(self, text: str) -> str:
        """Return what the model is told about an answer that does not fit, or an empty string."""

    def read(self, text: str) -> Any:
        """Return an answer's value. Raises `AnswerError`."""


class Toolbox(Protocol):
    """All tools of one session or client: functions, and sources that open when they are first needed.

    Made by the hook `agentd_create_toolbox`. Only one of the async methods may run at a time.
    """

    @property
    def tools(self) -> Tools | None:
        """The tools, once `open` has found any."""

    @property
    def has_tools(self) -> bool:
        """True if there is a function or a source that tools may come from."""

    async def open(self, servers: Sequence[object] = (), *, always: bool = False) -> Tools | None:
        """Bring everything up to date; a server that fails is closed, forgotten and named in the error.

        :param servers: more of them, from now on. One that is known already is used again.
        :param always: make an (empty) set where there are no tools.
        """

    async def refresh(self) -> bool:
        """Ask the sources that said so for their tools; tell whether there is more to ask already."""

    def offers(
        self, *, tools: bool, bash: bool, taken: Iterable[str], strict: StrictSchemas | None
    ) -> Offers:
        """Return what the model may call natively.

        :param tools: the tools that `open` has found.
        :param bash: one tool `bash`, whose calls are code to run.
        :param taken: names of the caller's own tools, which stay the caller's.
        :param strict: give tools the provider's strict schemas where that is possible.
        """

    def answer_form(self, output: Any) -> AnswerForm:
        """Return the form that a type or a JSON Schema gives an answer. Raises `ConfigError` if it has none."""

    async def settled(self) -> None:
        """Wait, within reason, until no change is being looked at."""

    def take_over(self, other: Toolbox) -> None:
        """Have the functions and servers of another toolbox as well, and its open sources in its place."""

    def give_up(self, run: str) -> None:
        """End the calls under way of a run: nobody waits for them any more."""

    async def aclose(self) -> None:
        """Close everything; `open` starts anew."""

    def close(self) -> None:
        """The same without an event loop, from any thread."""


def is_tool_source(thing: object) -> TypeGuard[ToolSource]:
    """Tell whether an object is a tool source already: it has a name and the three methods."""
    methods = (getattr(thing, name, None) for name in ("list_tools", "call", "aclose"))
    return isinstance(getattr(thing, "name", None), str) and all(map(callable, methods))


class ToolSource(Protocol):
    """Where tools come from: `@tool` functions, an MCP server, or something of a plugin's own.

    `list_tools` is called before the first call and again after `host.changed()`; the last `host` counts. `call`
    gets decoded arguments and returns a JSON-ready value, in which `Blob`s may stand; it raises `ToolError` with a
    message for the code to read, and reports how far it is by `on_progress(done, total or None, message)`, from any
    thread. All methods may be awaited from several event loops, one after the other or at once.

    Optional attributes, read after `list_tools`: `instructions`, a text for the model on how these tools belong
    together; `loop`, the `agentd_tools.TaskLoop` that `call` is to run on (without it: whichever loop serves
    the session's async tools). What a source may have besides is in `agentd_tools.sources`.
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

    def log(self, level: str, text: str) -> None:
        """Pass on a log message; `level` as syslog names it (`debug` ... `emergency`)."""

"""Places: where the sessions of agents are, if not in the daemon's process. The contract of `agentd.daemon.places`.

An entry point of that group names a class that is called as `open_place` calls it, and makes an `AgentPlace`. A place
keeps sessions in a store, each under its agent's name, and has a run that was cut off go on by itself. Triggers,
subscriptions, questions and the journal stay with the daemon.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, runtime_checkable

import attrs
from agentd.errors import MissingPluginError, PluginLoadError

if TYPE_CHECKING:
    from agentd.events import Event, RunEnd
    from agentd.protocols import Checkpoint
    from agentd.registry.config import PluginConfig
    from agentd.selectors import Selector
    from agentd.session.run import Run
    from agentd.turn.transcript import Transcript
    from agentd.types import ToolSpec

__all__ = [
    "GROUP",
    "AgentPlace",
    "AgentSession",
    "CheckablePlace",
    "MissingThing",
    "PlaceNeeds",
    "PlaceReport",
    "PlacedSession",
    "open_place",
]

GROUP: Final = "agentd.daemon.places"
_BY: Final = {"fleet": "agentd-ray"}


class AgentSession(Protocol):
    """What an agent's worker needs of a session; `agentd.Session` has it."""

    @property
    def transcript(self) -> Transcript:
        """What was said and done."""
        ...

    def run(self, task: str, *, output: Any = None) -> AsyncIterator[Event]:
        """Give the model a task, and return the events."""
        ...

    async def ask(self, task: str) -> RunEnd:
        """Give the model a task, and return the end."""
        ...

    async def prepare(self) -> None:
        """Do now what the first task would wait for."""
        ...

    async def continue_from(self, transcript: Transcript) -> None:
        """Go on from another conversation."""
        ...

    async def checkpoint(self, label: str | None = None) -> Checkpoint:
        """Keep this moment."""
        ...

    async def rewind(self, wanted: Selector | None = None) -> Checkpoint:
        """Go back to a checkpoint."""
        ...


class PlacedSession(Protocol):
    """A session somewhere else.

    :ivar moves: how often it has gone on elsewhere.
    """

    moves: int

    @property
    def node(self) -> str:
        """What machine it is on; empty if it is in the store alone."""
        ...

    def run(self, task: str, *, output: Any = None, key: str = "") -> Run:
        """As `agentd.Session.run`, wherever that may be. Events of a loss of machines are `SourceLog`s whose source is
        `fleet`.

        :param key: how the run has ended is kept under it, before that is told.
        """
        ...

    async def ended(self, key: str) -> RunEnd | None:
        """Return how the run of this key has ended, if that was the last one of a key; else None."""
        ...

    async def tools(self) -> list[ToolSpec]:
        """Return the tools that it has."""
        ...

    async def transcript(self) -> Transcript:
        """Return a copy of what was said and done."""
        ...

    async def continue_from(self, transcript: Transcript) -> None:
        """As `agentd.Session.continue_from`."""
        ...

    async def prepare(self) -> None:
        """As `agentd.Session.prepare`."""
        ...

    async def checkpoint(self, label: str | None = None) -> Checkpoint:
        """As `agentd.Session.checkpoint`."""
        ...

    async def rewind(self, wanted: Selector | None = None) -> Checkpoint:
        """As `agentd.Session.rewind`."""
        ...

    async def aclose(self) -> None:
        """Close it; it stays in the store."""
        ...


class AgentPlace(Protocol):
    """Where sessions are. Opened and closed in the daemon's event loop."""

    async def open(self) -> object:
        """Open it.

        :raises AgentdError: if it cannot be reached.
        """
        ...

    async def aclose(self) -> None:
        """Close it, with all that is open there."""
        ...

    async def session(self, name: str, settings: Mapping[str, Any], approver: object) -> PlacedSession:
        """Open the session of an agent, where it was left.

        :param settings: arguments of `agentd.Session`; they are plain data, and may hold secrets.
        :param approver: has an async `ask(question)`, which is called in the daemon.
        :raises AgentdError: if it cannot be opened.
        """
        ...


@attrs.frozen(kw_only=True)
class PlaceNeeds:
    """What agents need where their sessions are.

    :ivar executors: what runs the code of each agent that writes some, by the agent's name.
    :ivar commands: programs of their MCP servers.
    :ivar folders: of their skills; absolute.
    """

    executors: Mapping[str, Any] = attrs.field(factory=dict)
    commands: Sequence[str] = ()
    folders: Sequence[str] = ()


@attrs.frozen(kw_only=True)
class MissingThing:
    """A command or folder of `PlaceNeeds` that is not there; `where` names the machine."""

    kind: Literal["command", "folder"]
    name: str
    where: str


@attrs.frozen(kw_only=True)
class PlaceReport:
    """What a look at a place has found.

    :ivar faults: what keeps it from being opened, or an agent from working there, as the daemon itself would say it.
    :ivar warnings: what does not.
    :ivar found: what is right, a line each.
    """

    faults: Sequence[str] = ()
    warnings: Sequence[str] = ()
    missing: Sequence[MissingThing] = ()
    found: Sequence[str] = ()


@runtime_checkable
class CheckablePlace(Protocol):
    """A place that can be looked at before anything is started there: `agentd check` asks it."""

    def check(self, needs: PlaceNeeds) -> PlaceReport:
        """Look what would go wrong, and start nothing that stays. Blocking, for some seconds."""
        ...


def open_place(
    name: str, address: str, *, store: str, executor: object = None, plugins: PluginConfig | None = None
) -> AgentPlace:
    """Make a place that is to be opened.

    :param name: of its entry point.
    :param store: URL of where sessions are kept.
    :param executor: what all of them run their code with; None if they differ.
    :param plugins: which plugins may be loaded there; None for what the environment there says.
    :raises MissingPluginError: if it is not installed.
    :raises PluginLoadError: if it cannot be loaded.
    """
    from importlib.metadata import entry_points

    found = next(iter(entry_points(group=GROUP, name=name)), None)
    if found is None:
        raise MissingPluginError(f"--{name}", _BY.get(name, f"agentd-{name}"))
    try:
        make = found.load()
    except ImportError as error:
        raise PluginLoadError("place", name, found.value.partition(".")[0], str(error)) from error
    place: AgentPlace = make(address, store=store, executor=executor, plugins=plugins)
    return place

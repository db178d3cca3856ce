"""Control: what a person's side (the REPL, the status socket) may see of a running daemon and ask of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, Protocol

import attrs
from agentd.events import Event
from agentd.turn.transcript import Message
from agentd.types import ToolSpec, Usage

if TYPE_CHECKING:  # who asks for the status needs no journal
    from agentd_daemon.journal import JournalledQuestion

__all__ = ["AgentState", "AgentStatus", "AnswerScope", "Control", "ServerState", "ServerStatus"]

AgentState = Literal["starting", "idle", "running", "waiting", "retrying", "parked", "stopped"]
AnswerScope = Literal["once", "session", "always"]
ServerState = Literal["up", "down", "polling", "unknown"]


@attrs.frozen(kw_only=True)
class ServerStatus:
    """One server of an agent: `polling` is up, but offers no subscriptions; `error` says why it is not up."""

    name: str
    state: ServerState
    error: str = ""


@attrs.frozen(kw_only=True)
class AgentStatus:
    """How an agent is, at one moment.

    :param name: as the configuration has it.
    :param state: `retrying` waits until `next_try_at` and tries the same trigger again; `parked` has failed too
        often and waits for `resume`; `waiting` has a task that waits for a person's answer.
    :param queued: triggers that wait: new ones, and one that is to be tried again.
    :param current: id of the trigger that is being handled, or empty.
    :param model: the model's name.
    :param turns: rounds of the model since the daemon started.
    :param last_result: the last answer's prose, or empty.
    :param last_error: what went wrong last, or empty.
    :param last_at: when the last trigger was settled, in seconds since the epoch.
    :param servers: its MCP servers.
    :param usage: tokens and their cost since the daemon started.
    :param questions: ids of its questions that nobody has answered.
    :param node: the machine of a fleet that its session is on; empty if it is here, or in the store alone.
    :param next_try_at: when a `retrying` agent tries again, in seconds since the epoch.
    """

    name: str
    state: AgentState
    queued: int
    current: str = ""
    model: str = ""
    turns: int = 0
    last_result: str = ""
    last_error: str = ""
    last_at: float | None = None
    servers: tuple[ServerStatus, ...] = ()
    usage: Usage = attrs.field(factory=Usage)
    next_try_at: float | None = None
    questions: tuple[str, ...] = ()
    node: str = ""


class Control(Protocol):
    """A running daemon, for whoever stands in front of it.

    All methods are called in the daemon's event loop. Those that take an agent's name raise `ConfigError` if
    there is no such agent, other `AgentdError`s as each says.
    """

    def agents(self) -> list[AgentStatus]:
        """Return how every agent is now, in the configuration's order."""
        ...

    async def submit(self, agent: str, text: str) -> str:
        """Give the agent a person's message. It is journalled before this returns and answered in order.

        :return: the trigger's id.
        """
        ...

    def listen(self, on_event: Callable[[str, Event], None]) -> Callable[[], None]:
        """Call `on_event(agent, event)` with the events of every agent's runs, in the loop.

        `on_event` must neither block nor raise.

        :return: a function that ends this.
        """
        ...

    def cancel(self, agent: str) -> bool:
        """End the agent's current turn; its trigger counts as done. False: nothing runs."""
        ...

    def resume(self, agent: str) -> bool:
        """Let a parked agent try again, and what was set aside go on. False: it is not parked, and nothing was."""
        ...

    def questions(self) -> list[JournalledQuestion]:
        """Return the questions of all agents that nobody has answered, the oldest first."""
        ...

    def answer(self, id: str, *, allowed: bool, scope: AnswerScope = "once", reason: str = "") -> str:
        """Answer a question, as the person at the prompt.

        :return: what follows from it.
        :raises UnknownQuestionError: if there is none of this id.
        :raises LateAnswerError: if it takes no answer any more.
        """
        ...

    async def tools(self, agent: str) -> list[ToolSpec]:
        """Return the tools that the agent has."""
        ...

    def history(self, agent: str, limit: int = 20) -> list[Message]:
        """Return the last `limit` messages of the agent's conversation, oldest first."""
        ...

    async def snapshot(self, agent: str, label: str | None = None) -> str:
        """Keep the agent's workspace and conversation as they are.

        :return: the checkpoint's id.
        :raises SnapshotError: if it could not be taken.
        """
        ...

    async def rewind(self, agent: str, wanted: str) -> str:
        """Go back to a checkpoint.

        :param wanted: its id or label.
        :return: the id of the checkpoint that was restored.
        :raises UnknownSnapshotError: if there is none of this name.
        """
        ...

    def stop(self) -> None:
        """Ask the daemon to end; returns at once."""
        ...

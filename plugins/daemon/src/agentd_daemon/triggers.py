"""Triggers: what wakes an agent beside its subscriptions. The contract of the plugin kind `agentd.triggers`.

A plugin's hook `agentd_create_trigger(options)` makes a `TriggerSource`, and refuses options with `ConfigError`. The
daemon calls its `run` with a `TriggerHost`, which keeps two things for it in the journal:

- an *event* that it hands over with `accept`: when that returns, the event is journalled, and the agent will be told
  of it, whatever becomes of the process. Only then tell whoever sent it. An event whose id was accepted before is not
  taken twice.
- a *cursor*, a text of the trigger's own, which says from where on to look at the next start. It is written in one
  transaction with the event that it belongs to, so nothing is lost between the two, and nothing comes twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import attrs
from agentd.errors import AgentdError
from agentd.protocols import ToolSource

__all__ = [
    "MAX_EVENT_CHARS",
    "EventReceipt",
    "ExclusiveTrigger",
    "TriggerEvent",
    "TriggerHost",
    "TriggerQueueFullError",
    "TriggerSource",
]

MAX_EVENT_CHARS = 1_000_000
"""Characters of an event that the journal keeps; the middle of a longer one is cut."""


@attrs.frozen(kw_only=True)
class TriggerEvent:
    """Something that has happened.

    :ivar id: names it, among the events of this trigger, for good. The same id is the same event.
    :ivar text: what has happened, for the model. It reads this as data from outside, never as instructions.
    :ivar cursor: from where on to look after this event; None leaves the cursor as it is.
    :ivar may_be_own: what the agent does may cause such an event. If it seems to wake itself so, the task is set
        aside for a while (see `agentd_daemon.own_wakes`).
    :ivar age_s: for how many seconds, at most, it may have gone unseen: for what is only looked at from time to time,
        those since the look before.
    """

    id: str
    text: str
    cursor: str | None = None
    may_be_own: bool = False
    age_s: float = 0.0


@attrs.frozen(kw_only=True)
class EventReceipt:
    """That an event is in the journal.

    :ivar task: the id of the task that it has become.
    :ivar is_new: False if it was there already.
    """

    task: str
    is_new: bool


class TriggerQueueFullError(AgentdError):
    """As many events of a trigger wait for the agent as may; this one was not taken."""

    def __init__(self, agent: str, name: str, most: int) -> None:
        super().__init__(
            f"the trigger {name!r} of {agent}: {most} events wait for the agent, and no more may (`max_waiting`); "
            "send it again later"
        )


class TriggerHost(Protocol):
    """The daemon, as a trigger sees it.

    :ivar agent: the agent's name.
    :ivar name: the trigger's.
    :ivar once: look a single time and return, instead of watching for ever.
    :ivar sources: the agent's MCP servers.
    """

    agent: str
    name: str
    once: bool
    sources: Sequence[ToolSource]

    @property
    def cursor(self) -> str | None:
        """What was noted last, also by an earlier process; None at the very first start."""
        ...

    async def accept(self, event: TriggerEvent, *, wait: bool = True) -> EventReceipt:
        """Journal an event. When this returns, the agent will be told of it.

        :param wait: if too many wait, wait until the agent has come to some of them.
        :raises TriggerQueueFullError: without `wait`, or with `once`: the event was not taken.
        :raises OSError: the journal cannot be written (`JournalError`): the event was not taken.
        """
        ...

    def note(self, cursor: str) -> None:
        """Move the cursor without waking the agent."""
        ...

    def report(self, problem: str) -> None:
        """Say what keeps the trigger from its work: in the log, once, and in `agentd status`. Empty: it works again."""
        ...


@runtime_checkable
class TriggerSource(Protocol):
    """A source of events for one agent."""

    async def run(self, host: TriggerHost) -> None:
        """Hand over events until cancelled; with `host.once`, look a single time and return.

        An exception is told in the log, and after a pause a new trigger is made. Everything that was begun here has
        ended when this returns or raises.
        """
        ...


@runtime_checkable
class ExclusiveTrigger(Protocol):
    """A source that needs something which only one in a daemon can have, such as a port.

    A trigger that has this, too, is compared with the others of its kind before anything is started.
    """

    def clash(self, other: object) -> str:
        """Return why this one and another of the same configuration cannot both be at work; empty: they can.

        `option 'NAME' of the trigger 'KIND': ...` is told at that option. No value stands in it: options may be
        secrets. Nothing is started for that.
        """
        ...

"""What the journal gives back: triggers, what was last seen of a resource, notes about turns. All are frozen."""

from __future__ import annotations

from typing import Literal

import attrs
from agentd.types import Usage

__all__ = ["Origin", "Seen", "SettledState", "Trigger", "TriggerState", "TurnNote"]

Origin = Literal["subscription", "repl", "once"]
SettledState = Literal["done", "failed", "skipped"]
TriggerState = Literal["pending", "running", "interrupted", "done", "failed", "skipped"]


@attrs.frozen(kw_only=True)
class Trigger:
    """One reason for an agent to wake: a change of a resource, or what a person wrote.

    Times are seconds since the epoch.

    :param id: short; unique in the journal, also across restarts; ids sort by when they were accepted. The same id
        with `attempts` above 1 is the same trigger once more: its work may have been done in part.
    :param uri: the resource that changed, with its new `content`, its `digest`, and the `previous` content that
        the agent knows.
    :param task: what a person wrote, or what the agent is to be told beside the content.
    :param state: `pending` waits; `running` has begun; `interrupted` had begun when the daemon died, and waits to begin
        again; `done`, `failed` and `skipped` are final.
    :param attempts: how often it has begun.
    :param coalesced: how many earlier changes of the resource this one stands for besides its own.
    :param started_at: when the last attempt began.
    :param error: of the last attempt that failed, also while it waits for the next.
    """

    id: str
    agent: str
    origin: Origin
    uri: str = ""
    state: TriggerState = "pending"
    attempts: int = 0
    coalesced: int = 0
    accepted_at: float
    started_at: float | None = None
    ended_at: float | None = None
    digest: str = ""
    task: str = ""
    error: str = ""
    result: str = ""
    content: str = ""
    previous: str = ""


@attrs.frozen
class Seen:
    """What an agent was last told of a resource, and when (seconds since the epoch)."""

    digest: str
    content: str
    at: float


@attrs.frozen(kw_only=True)
class TurnNote:
    """One turn of an attempt at a trigger, when it ended (seconds since the epoch), and what it used."""

    attempt: int
    turn: int
    at: float
    usage: Usage

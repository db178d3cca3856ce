"""What the journal gives back: triggers, what was last seen of a resource, notes about turns. All are frozen."""

from __future__ import annotations

from typing import Literal

import attrs
from agentd.types import Usage

__all__ = [
    "JournalledQuestion",
    "Origin",
    "QuestionState",
    "Seen",
    "SettledState",
    "Trigger",
    "TriggerState",
    "TurnNote",
]

Origin = Literal["subscription", "trigger", "repl", "once"]
SettledState = Literal["done", "failed", "skipped"]
TriggerState = Literal["pending", "running", "interrupted", "done", "failed", "skipped"]
QuestionState = Literal["open", "parked", "lost", "answered", "over"]


@attrs.frozen(kw_only=True)
class Trigger:
    """One reason for an agent to wake: a change of a resource, an event of a trigger, or what a person wrote.

    Times are seconds since the epoch.

    :param id: short; unique in the journal, also across restarts; ids sort by when they were accepted. The same id
        with `attempts` above 1 is the same trigger once more: its work may have been done in part.
    :param uri: the resource that changed, with its new `content`, its `digest`, and the `previous` content that
        the agent knows; for an event, `trigger:NAME`, and its text as `content`.
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


@attrs.frozen(kw_only=True)
class JournalledQuestion:
    """A question of an agent's policy, and its answer if there is one. Times are seconds since the epoch.

    :param trigger_id: the task that it belongs to; None for what an agent does between two tasks.
    :param state: `open`: a call waits for the answer; `parked`: its task does, without a process; `lost`: its call is
        gone, and the same call asked again in this task gets the answer; `answered`; `over`: it ended without an
        answer, and `reason` says why.
    :param kind: `tool`, `create` or `host`.
    :param digest: of the arguments, whole; `arguments` has the beginning of them.
    :param why: the rule that wants somebody to be asked.
    :param rule: what that rule matches: an answer for longer than once holds for it alone.
    :param workspace: of the agent.
    :param until: when it ends without an answer.
    :param taken: a call has got the answer.
    """

    id: str
    agent: str
    trigger_id: str | None
    state: QuestionState
    kind: Literal["tool", "create", "host"]
    name: str
    source: str
    digest: str
    arguments: str
    why: str
    workspace: str
    asked_at: float
    until: float
    allowed: bool = False
    scope: Literal["once", "session", "always"] = "once"
    reason: str = ""
    answered_by: str = ""
    answered_at: float | None = None
    taken: bool = False
    rule: str = "default"

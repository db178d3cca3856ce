"""The values that go between a driver and its hosts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from agentd.types import ToolSpec, Usage
from agentd_store.holder import HolderGone

__all__ = [
    "ApproverAsked",
    "HostBeat",
    "HostSettings",
    "OpenedReport",
    "RunDone",
    "RunEvents",
    "RunFailed",
    "RunOrder",
    "RunSpent",
    "SessionOrder",
    "ToolAsked",
]


@attrs.frozen(kw_only=True)
class HostSettings:
    """What a host is made with.

    :ivar fleet, node: ids; `store` is a URL and options for its file system, `key` what it is encrypted with, if that
        is not in the host's environment; `executor` is tried when the host starts.
    :ivar name: its own among all actors of the fleet; `is_spare`: it takes the place of another one that is lost.
    :ivar folder: where workspaces and caches lie; None for the machine's folder for temporary files.
    :ivar stale: names of actors that were on this node before, and are lost: what they have left is removed.
    """

    fleet: str
    node: str
    name: str
    is_spare: bool = False
    stale: Sequence[str] = ()
    url: str
    storage_options: dict[str, Any] | None = None
    key: str | None = None
    lease_s: float
    beat_s: float
    folder: str | None = None
    executor: Any = None


@attrs.frozen(kw_only=True)
class SessionOrder:
    """A session that a host is to open.

    :ivar settings: arguments of `Session`, packed.
    :ivar driver_tools: what the driver answers calls of; `asks_driver`: its approver is the driver's.
    :ivar gone: who has had it and is known to be dead.
    :ivar is_again: it was lost in a run: calls that must not be made twice are asked about.
    """

    conversation: str
    settings: bytes
    driver_tools: Sequence[ToolSpec] = ()
    asks_driver: bool = False
    is_again: bool = False
    gone: Sequence[HolderGone] = ()
    files: Mapping[str, bytes] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class OpenedReport:
    """Where a conversation is: how many messages it has, answers among them, the last one's role and the text of the
    last answer. `holder`: under which id its host shows the store that it lives."""

    messages: int
    answers: int = 0
    last_role: str = ""
    last_answer: str = ""
    usage: Usage = attrs.field(factory=Usage)
    holder: str = ""


@attrs.frozen(kw_only=True)
class RunSpent:
    """What a run has used on hosts that it was on before."""

    turns: int
    seconds: float
    usage: Usage


@attrs.frozen(kw_only=True)
class RunOrder:
    """A run that is to begin.

    :ivar run: its number, which the driver's end gives it.
    :ivar task: text or parts; `output` a packed type or schema, or None.
    :ivar spent: what its budgets have less; None where it begins.
    :ivar wants_events: False: only the end is told.
    :ivar key: its end is kept under it, before it is told; empty for one that is not kept.
    """

    run: int = 0
    conversation: str
    task: Any
    output: bytes | None = None
    spent: RunSpent | None = None
    wants_events: bool = True
    key: str = ""


@attrs.frozen
class RunEvents:
    """Events of a run, in order."""

    run: int
    events: list[Any]


@attrs.frozen
class RunDone:
    """A run is over, and what it did is in the store; `value` is its `RunEnd`, or what `ask` returns, packed."""

    run: int
    value: bytes
    report: OpenedReport


@attrs.frozen
class RunFailed:
    """A run has ended with an error; `end` is its `RunEnd`, if it has one."""

    run: int
    error: bytes
    report: OpenedReport
    end: Any = None


@attrs.frozen
class ToolAsked:
    """Code calls a function of the driver's."""

    call: int
    conversation: str
    name: str
    arguments: dict[str, object]


@attrs.frozen
class ApproverAsked:
    """Somebody is to be asked, at the driver's; `question` are the arguments of a `Question`."""

    call: int
    conversation: str
    question: dict[str, Any]


@attrs.frozen(kw_only=True)
class HostBeat:
    """A host lives: what it has, how much memory its machine has left, and under which id it shows the store so."""

    sessions: int
    running: int
    free_mib: int
    loop_lag_s: float = 0.0
    holder: str = ""

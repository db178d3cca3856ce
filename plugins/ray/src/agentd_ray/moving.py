"""A run that goes on elsewhere: what the model is told, and its events as those of one run."""

from __future__ import annotations

import time
from functools import partial
from typing import Any, Final

import attrs
from agentd.events import Event, RunEnd, RunStart
from agentd.turn.transcript import Message
from agentd.types import Usage

from agentd_ray.wire import OpenedReport, RunSpent

__all__ = ["MovedRun"]

AGAIN: Final = (
    "[note: this task was begun before, and the machine on which that happened was lost. The workspace is what it was "
    "before the task. What was done outside of it (a request, a payment, a message) may have happened: look before you "
    "do it again.]"
)
GO_ON: Final = (
    "[note: the machine on which this task was worked on was lost. The workspace and the shell are what they were "
    "after the last result above; running processes and jobs have ended. What was done since then outside of the "
    "workspace (a request, a payment, a message) may have happened: look before you do it again. Go on with the task.]"
)
LEFT: Final = (
    "[note: this conversation has moved to another machine. The workspace and the shell are what they were; running "
    "processes and jobs have ended. Go on with the task.]"
)


@attrs.define(eq=False)
class MovedRun:
    """One run of a session, as its reader sees it, on however many hosts.

    :ivar task: what it was asked for; `before` is where the conversation was.
    """

    task: Any
    before: OpenedReport = attrs.field(factory=partial(OpenedReport, messages=0))
    moves: int = 0
    _turns: int = attrs.field(default=0, init=False)
    _began: float = attrs.field(factory=time.monotonic, init=False)

    def told(self, now: OpenedReport, *, left: bool) -> Any:
        """Return what the model is told where the run goes on."""
        self.moves += 1
        self._turns = now.answers - self.before.answers
        if now.messages > self.before.messages:
            return LEFT if left else GO_ON
        if left:
            return self.task
        message = Message.of_task(self.task).with_text(AGAIN)
        return list(message.parts) if message.parts else message.content

    def spent(self, now: OpenedReport) -> RunSpent:
        """Return what it has used so far, as far as that is kept."""
        return RunSpent(
            turns=now.answers - self.before.answers,
            seconds=time.monotonic() - self._began,
            usage=_difference(now.usage, self.before.usage),
        )

    def end_of(self, now: OpenedReport) -> RunEnd | None:
        """Return the end of a run whose last answer is in the store, though its end was never told; else None."""
        if now.messages <= self.before.messages or now.last_role != "answer":
            return None
        return RunEnd(
            text=now.last_answer,
            turns=now.answers - self.before.answers,
            usage=_difference(now.usage, self.before.usage),
        )

    def event(self, event: Event) -> Event | None:
        """Return an event as one of the whole run; None for one that is not told."""
        if not self.moves:
            return event
        if isinstance(event, RunStart):
            return None
        changes: dict[str, Any] = {}
        for name in ("id", "code_id"):
            if getattr(event, name, ""):
                changes[name] = f"moved{self.moves}_{getattr(event, name)}"
        if hasattr(event, "turn"):
            changes["turn"] = event.turn + self._turns
        return attrs.evolve(event, **changes) if changes else event

    def end(self, end: RunEnd, now: OpenedReport) -> RunEnd:
        """Return the end of the whole run."""
        if not self.moves:
            return end
        return attrs.evolve(
            end, turns=end.turns + self._turns, usage=_difference(now.usage, self.before.usage)
        )


def _difference(now: Usage, before: Usage) -> Usage:
    def less(name: str) -> Any:
        a, b = getattr(now, name), getattr(before, name)
        return a if b is None or a is None else a - b

    return Usage(**{field.name: less(field.name) for field in attrs.fields(Usage)})

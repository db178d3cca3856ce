"""An agent that wakes itself: what it changes wakes it, it changes that again, and so on. Such tasks are set aside.

Nobody says who has changed something, so the time is all there is to go by. A task has a *depth*: 0 if what woke the
agent came in a quiet moment, or cannot be of its doing (a time, a person); else one more than the task during which it
came, or soon after which, if that ran code or called a tool: an agent that only reads and answers changes nothing. So
the depth counts how often in a row the agent may have woken itself, over all that wakes it: also where two resources
take turns. Above the bound of its trigger, a task waits in the queue, and others go on:

- something of the same trigger that comes while the agent is quiet is somebody else's doing: it ends the wait;
- a person ends it with `/resume`;
- it ends by itself, after a pause that doubles each time: nothing is lost if somebody else was taken for the agent.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

import attrs

__all__ = ["OwnWakes", "Waker"]

log = logging.getLogger("agentd.daemon")

SOON_S: Final = 15.0
"""So long after a task, what wakes the agent may still be of what it has done."""
FIRST_S: Final = 30.0
"""Longer than that, or no moment of the pause would be quiet."""
LONGEST_S: Final = 3600.0
MOST_DEPTHS: Final = 10_000
"""Tasks whose depths are remembered."""


@attrs.frozen(kw_only=True)
class Waker:
    """What has woken an agent: a subscription or a trigger.

    :ivar uri: what the journal calls it.
    :ivar called: what a person calls it, with the key of the configuration that it stands in.
    :ivar most: how often in a row the agent may wake itself by it; None: for ever.
    """

    uri: str
    called: str
    most: int | None


@attrs.frozen
class _Hold:
    until: float
    tasks: tuple[str, ...]
    notice: str


class OwnWakes:
    """Counts how often in a row an agent may have woken itself, and says which tasks wait for that.

    :param now: gives the time in seconds, from any moment on.
    """

    def __init__(self, agent: str, *, now: Callable[[], float] = time.monotonic) -> None:
        self._agent = agent
        self._now = now
        self._depths: dict[str, int] = {}
        self._holds: dict[str, _Hold] = {}
        self._depth = 0
        self._is_at_work = self._has_acted = False
        self._meanwhile: list[tuple[str, Waker]] = []
        """What came during the task at hand: whose doing it may be is known at its end."""
        self._acted: tuple[float, int] | None = None
        """When the last task that has done something ended, and its depth."""

    # --- what happens ------------------------------------------------------------------------------

    def accepted(self, task: str, waker: Waker, *, may_be_own: bool = True, age_s: float = 0.0) -> None:
        """Hear of a task, or of a change that went into one.

        :param may_be_own: what the agent does may cause it.
        :param age_s: so long ago, at most, it has happened.
        """
        if may_be_own and self._is_at_work:
            self._meanwhile.append((task, waker))
            return
        depth = 0
        if may_be_own and self._acted is not None:
            ended, of = self._acted
            depth = of + 1 if self._now() - age_s <= ended + SOON_S else 0
        self._take(task, waker, depth, age_s)

    def _take(self, task: str, waker: Waker, depth: int, age_s: float = 0.0) -> None:
        depth = min(depth, self._depths.get(task, depth))
        self._note(task, depth)
        held = self._holds.get(waker.uri)
        tasks = dict.fromkeys((*(held.tasks if held else ()), task))
        if waker.most is None or depth <= waker.most:
            for one in tasks:  # those before it go first, by the same reason
                self._note(one, min(depth, self._depths.get(one, depth)))
            self._holds.pop(waker.uri, None)
        elif held is not None:
            self._holds[waker.uri] = attrs.evolve(held, tasks=tuple(tasks))
        else:
            pause_s = FIRST_S * float(1 << min(depth - waker.most - 1, 10))
            pause_s = max(min(pause_s, LONGEST_S), SOON_S + 2 * age_s)  # something may be seen in it
            self._holds[waker.uri] = _Hold(self._now() + pause_s, tuple(tasks), self._told(waker, pause_s))

    def begin(self, task: str) -> None:
        """Hear that the agent is at work on a task."""
        self._depth = self._depths.get(task, 0)
        self._is_at_work, self._has_acted = True, False

    def act(self) -> None:
        """Hear that the agent has run code, or called a tool."""
        self._has_acted = True

    def end(self) -> None:
        """Hear that it is not at work any more."""
        depth, meanwhile = 0, self._meanwhile
        if self._has_acted:
            self._acted = self._now(), self._depth
            depth = self._depth + 1
        self._is_at_work, self._meanwhile = False, []
        for task, waker in meanwhile:
            self._take(task, waker, depth)

    def release(self) -> bool:
        """Let all that waits go on, and count anew; False if nothing does."""
        waited = bool(self.held)
        for hold in self._holds.values():
            for task in hold.tasks:
                self._note(task, 0)
        self._holds.clear()
        return waited

    # --- what follows ------------------------------------------------------------------------------

    @property
    def held(self) -> frozenset[str]:
        """The URIs whose tasks wait."""
        now = self._now()
        for uri in [uri for uri, hold in self._holds.items() if hold.until <= now]:
            del self._holds[uri]
        return frozenset(self._holds)

    @property
    def wait_s(self) -> float:
        """For how many seconds, at most; infinite if none does."""
        return max(
            min((hold.until for hold in self._holds.values()), default=float("inf")) - self._now(), 0.0
        )

    @property
    def notice(self) -> str:
        """What a person is told of one that waits; else empty."""
        return next((self._holds[uri].notice for uri in self.held), "")

    def _note(self, task: str, depth: int) -> None:
        self._depths[task] = depth
        if len(self._depths) > MOST_DEPTHS:
            del self._depths[next(iter(self._depths))]

    def _told(self, waker: Waker, pause_s: float) -> str:
        text = (
            f"{waker.called} is set aside for {pause_s:g} s: {waker.most} times in a row, the agent was woken by what "
            "came while it was at work or just after, so it seems to wake itself; /resume "
            f"{self._agent}, or a change in a quiet moment, has it go on at once"
        )
        log.warning("%s: %s", self._agent, text)
        return text

"""How an agent is: at work, idle, or paused until a person or the time lets it go on, and its figures."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

import anyio
import attrs
from agentd.types import Usage
from agentd_tools.backoff import Backoff

from agentd_daemon.config.values import AgentConfig
from agentd_daemon.control import AgentState, AgentStatus
from agentd_daemon.journal import Journal, JournalError

__all__ = ["AgentCondition"]

log = logging.getLogger("agentd.daemon")

T = TypeVar("T")


class AgentCondition:
    """The state of one agent, its figures, and its pauses."""

    def __init__(self, config: AgentConfig, journal: Journal) -> None:
        self.name = config.name
        self.parked = anyio.Event()
        """Set when the agent was parked for the first time."""
        self.is_leaving = False
        self._journal = journal
        self._state: AgentState = "starting"
        self._resumed = anyio.Event()
        self._status = AgentStatus(name=config.name, state="starting", queued=0, model=config.model_name)
        self._queued: int | None = None

    # --- what can be asked -------------------------------------------------------------------------

    @property
    def status(self) -> AgentStatus:
        """How the agent is now, without its servers and questions."""
        if self._queued is None:
            counts = self._journal.counts(self.name)
            self._queued = counts.get("pending", 0) + counts.get("interrupted", 0)
        return attrs.evolve(self._status, state=self._state, queued=self._queued)

    @property
    def current(self) -> str:
        """The id of the task at hand, or empty."""
        return self._status.current

    @property
    def last_result(self) -> str:
        """The last result that was not empty."""
        return self._status.last_result

    # --- what is told ------------------------------------------------------------------------------

    def becomes(self, state: AgentState, **figures: Any) -> None:
        """Note another state, and perhaps figures; the queue is counted anew."""
        self._state, self._queued = state, None
        self.tell(**figures)

    def waits(self, state: AgentState) -> anyio.Event:
        """Note a state that `resume` ends, and return what is set then."""
        self.becomes(state)
        self._resumed = anyio.Event()
        return self._resumed

    def tell(self, **figures: Any) -> None:
        """Note figures of `AgentStatus`."""
        self._status = attrs.evolve(self._status, **figures)

    def count_turn(self, usage: Usage) -> None:
        """Note a turn and what it has used."""
        self.tell(turns=self._status.turns + 1, usage=self._status.usage + usage)

    def queue_changed(self) -> None:
        """Have the queue counted anew."""
        self._queued = None

    # --- pauses ------------------------------------------------------------------------------------

    def resume(self) -> bool:
        """End a pause, or the waiting for an answer; False if there is neither."""
        if self._state not in ("parked", "retrying", "waiting"):
            return False
        self._resumed.set()
        return True

    def leave(self) -> None:
        """End pauses, now and from now on."""
        self.is_leaving = True
        self._resumed.set()

    async def pause(self, state: AgentState, error: str, wait_s: float | None) -> None:
        """Wait for so long, or for `resume`; without a time, for that alone."""
        self.waits(state)
        if wait_s is None:
            name = self.name
            log.error(
                "%s: parked: %s; /resume %s in the prompt, or a restart, tries again", name, error, name
            )
        else:
            log.warning("%s: will try again in %.1f s: %s", self.name, wait_s, error)
            self.tell(next_try_at=time.time() + wait_s)
        if self.is_leaving:
            return
        if state == "parked":
            self.parked.set()
        with anyio.move_on_after(float("inf") if wait_s is None else wait_s):
            await self._resumed.wait()
        self.tell(next_try_at=None)

    async def kept(self, write: Callable[[], T]) -> T:
        """Write into the journal. As long as the disk is full, wait: what was done must not be done again for that.

        :raises JournalError: if that is not what is wrong, or the agent is to leave.
        """
        backoff, state = Backoff(first_s=1.0, longest_s=60.0), self._state
        while True:
            try:
                done = write()
            except JournalError as error:
                if error.errno != errno.ENOSPC or self.is_leaving:
                    raise
                self.tell(last_error=str(error))
                await self.pause("retrying", str(error), backoff.next_s())
            else:
                self._state = state
                return done

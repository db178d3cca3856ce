"""A trigger under the daemon's own watch, over a real journal, without an agent that works. Needs agentd-daemon."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import anyio
from agentd.protocols import ToolSource
from agentd_daemon.agent import AgentWorker
from agentd_daemon.config.values import TriggerConfig
from agentd_daemon.journal import Journal, Trigger
from agentd_daemon.own_wakes import OwnWakes
from agentd_daemon.triggers import EventReceipt, TriggerEvent
from agentd_daemon.waking import TriggerWatch

__all__ = ["GatedWatch", "IdleWorker", "TriggerLife", "trigger_life"]

WAIT_S = 60.0
CLOSE_S = 20.0

Gate = Callable[[TriggerEvent], Awaitable[None]]


class IdleWorker:
    """Stands where the agent's worker does, and works on nothing."""

    name = "a"

    def __init__(self, sources: Sequence[ToolSource] = ()) -> None:
        self.shares: tuple[Any, ...] = tuple(sources)
        self.settled = anyio.Event()
        self.wakes = OwnWakes(self.name)
        self.woken = 0
        self._news = anyio.Event()

    def wake(self) -> None:
        """Note that an event was accepted."""
        self.woken += 1
        self._news.set()
        self._news = anyio.Event()

    async def until_woken(self, times: int) -> None:
        """Wait until so many events were accepted."""
        with anyio.fail_after(WAIT_S):
            while self.woken < times:
                await self._news.wait()


async def _open(event: TriggerEvent) -> None:
    """Let everything pass."""


class GatedWatch(TriggerWatch):
    """The daemon's watch, with a gate before the journal and one behind it, and a word about what the trigger says."""

    before: Gate = staticmethod(_open)
    behind: Gate = staticmethod(_open)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.is_at_work = anyio.Event()
        """The trigger has noted a position, handed over an event, or said that it works."""

    async def accept(self, event: TriggerEvent, *, wait: bool) -> EventReceipt:
        """Journal an event, between the gates."""
        await self.before(event)
        receipt = await super().accept(event, wait=wait)
        await self.behind(event)
        self.is_at_work.set()
        return receipt

    def note(self, cursor: str) -> None:
        """Move the cursor."""
        super().note(cursor)
        self.is_at_work.set()

    def report(self, problem: str) -> None:
        """Say what is wrong."""
        super().report(problem)
        if not problem:
            self.is_at_work.set()


class TriggerLife:
    """The daemon from a start to its end, as far as one trigger goes."""

    def __init__(self, journal: Journal, worker: IdleWorker, watch: GatedWatch) -> None:
        self.journal = journal
        self.worker = worker
        self.watch = watch

    async def at_work(self) -> None:
        """Wait until the trigger is at work."""
        with anyio.fail_after(WAIT_S):
            await self.watch.is_at_work.wait()

    def texts(self) -> list[str]:
        """Return the texts of all events in the journal, the oldest first, settled or not."""
        return [task.content for task in reversed(self.journal.recent("a", 100_000))]

    async def told(self, text: str) -> None:
        """Wait until an event with this text is in the journal."""
        try:
            with anyio.fail_after(WAIT_S):
                while not any(text in told for told in self.texts()):
                    await self.worker.until_woken(self.worker.woken + 1)
        except TimeoutError:
            said = f", and the trigger says: {self.watch.error}" if self.watch.error else ""
            raise AssertionError(f"no event has {text!r}; there are {self.texts()}{said}") from None

    def settle(self) -> Trigger:
        """Do the oldest task."""
        waiting = self.journal.next_trigger("a")
        assert waiting is not None, "nothing waits"
        self.journal.begin(waiting.id)
        done = self.journal.settle(waiting.id, state="done")
        self.worker.settled.set()
        self.worker.settled = anyio.Event()
        return done


def life_of(
    journal: Journal,
    make: Callable[[], object],
    *,
    sources: Sequence[ToolSource] = (),
    once: bool = False,
    max_waiting: int = 100,
) -> TriggerLife:
    """Return a life that has not begun: `life.watch.run()` or `.once()` begins it."""
    worker = IdleWorker(sources)
    config = TriggerConfig(kind="test", max_waiting=max_waiting)
    return TriggerLife(
        journal, worker, GatedWatch(cast(AgentWorker, worker), config, make, journal, once=once)
    )


@asynccontextmanager
async def trigger_life(
    journal: Journal, make: Callable[[], object], **options: Any
) -> AsyncIterator[TriggerLife]:
    """Run a trigger until the block ends.

    :param make: makes the trigger; again after each failure.
    :param options: of `life_of`.
    :raises AssertionError: the trigger does not end within 20 seconds when it is cancelled.
    """
    life = life_of(journal, make, **options)
    has_ended = anyio.Event()

    async def run() -> None:
        try:
            await life.watch.run()
        finally:
            has_ended.set()

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        try:
            yield life
        finally:
            group.cancel_scope.cancel()
            with anyio.move_on_after(CLOSE_S, shield=True):
                await has_ended.wait()
            assert has_ended.is_set(), f"the trigger has not ended {CLOSE_S:g} s after it was cancelled"

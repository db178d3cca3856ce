"""A session as a host has it: kept in the store after each turn, and able to leave at a turn's border."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import attrs
from agentd._concurrency.pool import call_in_thread
from agentd.errors import SnapshotError
from agentd.events import RunEnd, SourceLog
from agentd_store import StoreError

from agentd_ray.errors import SessionLeftError
from agentd_ray.gate import RepeatGate
from agentd_ray.hosted_calls import HostedCalls
from agentd_ray.wire import OpenedReport, RunSpent

__all__ = ["HostedSession"]

log = logging.getLogger("agentd.fleet")

PAUSES_S: Final = (0.2, 1.0, 3.0)
"""Between the attempts to keep what a run did, before its result is told without that."""


class HostedSession(HostedCalls):
    """A session whose conversation lies in the store. It goes on from the newest checkpoint when it is opened.

    :ivar conversation: its name.
    :ivar is_leaving: it ends its run with `SessionLeftError` at the next turn's border.
    """

    conversation = ""
    is_leaving = False
    _is_kept = True
    _kept_state = (0, "")

    async def _begin(self) -> None:
        await super()._begin()
        await self._timeline.resume()
        self._kept_state = self._state()
        gate = self.resources.policy
        if isinstance(gate, RepeatGate):
            gate.is_sure, gate.newest = self._is_sure, self.checkpoint_id
            await call_in_thread(lambda: gate.intents.take_up(self.checkpoint_id()))

    def _is_sure(self) -> bool:
        """Tell whether this host is sure to have the conversation still. Blocking."""
        return bool(self._timeline.snapshots.is_sure)  # type: ignore[attr-defined]  # agentd-store's

    async def _after_turn(self) -> None:
        await self._keep()
        if self.is_leaving and self._is_kept:
            raise SessionLeftError(self.conversation)

    async def _keep(self) -> None:
        try:
            await self._timeline.take()
            self._is_kept, self._kept_state = True, self._state()
        # The store is full or not reached: the run goes on, its next turn is kept.
        except SnapshotError as error:
            self._is_kept = False
            log.warning("this turn could not be kept: %s", error)
            text = f"this turn is not in the store yet: {error}"
            self.resources.tell(SourceLog(source="fleet", level="warning", text=text))

    def _state(self) -> tuple[int, str]:
        """Return what is another one when something was said or taken back."""
        messages = self.transcript.messages
        return len(messages), messages[-1].content if messages else ""

    async def keep_changes(self, *, always: bool = False) -> None:
        """Keep what no checkpoint has: of a run that was ended, say. The newest one is what is gone on from."""
        if always or self._state() != self._kept_state:
            await self._keep()

    async def settle_kept(self) -> None:
        """The run is over: try again to keep what could not be kept, and forget which calls it has made."""
        await self._kept_at_last()
        gate = self.resources.policy
        if isinstance(gate, RepeatGate) and self._is_kept:
            try:
                await call_in_thread(gate.intents.settle)
            except StoreError as error:  # they say of themselves that a newer checkpoint has them
                log.warning("what calls were made could not be forgotten: %s", error)

    async def _kept_at_last(self) -> None:
        for pause_s in PAUSES_S:
            if self._is_kept:
                return
            await asyncio.sleep(pause_s)
            await self._keep()

    @contextmanager
    def going_on(self, spent: RunSpent | None) -> Iterator[RunEnd | None]:
        """Have the run that follows use what its budgets have left. Yields its end if that is nothing."""
        whole, end = self.budgets, None
        if spent is not None:
            cost_usd = spent.usage.cost_usd or 0.0
            reason = whole.exceeded(
                turns=spent.turns, elapsed_s=spent.seconds, usage=spent.usage, tool_calls=0
            )
            if reason is None and whole.max_cost_usd is not None and cost_usd >= whole.max_cost_usd:
                reason = "cost"
            if reason is not None:
                end = RunEnd(stop_reason=reason, text=self.transcript.last_answer)
            else:
                self._acting.budgets = attrs.evolve(
                    whole,
                    max_turns=_less(whole.max_turns, spent.turns),
                    wall_time_s=_less(whole.wall_time_s, spent.seconds),
                    max_tokens=_less(whole.max_tokens, spent.usage.total_tokens),
                    max_cost_usd=_less(whole.max_cost_usd, cost_usd),
                )
        try:
            yield end
        finally:
            self._acting.budgets = whole

    def end_run(self, end: RunEnd, output: Any) -> RunEnd:
        """Return the end of a run that has come to nothing here. Raises `AnswerError` if it was to have a form."""
        if output is not None:
            self._conversation.check_end(self.resources.answer_form(output), end)
        return end

    def report(self) -> OpenedReport:
        """Return where the conversation is."""
        messages = self.transcript.messages
        return OpenedReport(
            messages=len(messages),
            answers=sum(message.role == "answer" for message in messages),
            last_role=messages[-1].role if messages else "",
            last_answer=self.transcript.last_answer,
            usage=self.usage,
            holder=str(self._timeline.snapshots.holder_id),  # type: ignore[attr-defined]  # agentd-store's
        )

    def checkpoint_id(self) -> str:
        """Return the newest checkpoint's id; empty if there is none."""
        known: list[Any] = self.checkpoints()
        return str(known[-1].id) if known else ""


def _less(limit: Any, used: float) -> Any:
    return None if limit is None else limit - used

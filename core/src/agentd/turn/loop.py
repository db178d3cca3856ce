"""The turn loop: the model answers, its blocks run while it still writes, the results go back, and again.

What is to be done stands in the answer as blocks, or comes as native tool calls; nothing else differs. The
rules are in `docs/turn-rules.md`. One `TurnLoop` is one run; no task outlives its `run()`. Everything
that was said and done is in the transcript also when `run()` raises or is cancelled.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

import anyio
import attrs

from agentd import errors, events
from agentd._concurrency.waiting import LoopCaller, loop_caller
from agentd.protocols import EstimatingModel, ModelEvent, ModelFinish, ModelToolCall, PricedModel
from agentd.text import valid_text
from agentd.turn.observer import Listener, OutputRelay, ToolEvent
from agentd.turn.reading import AnswerReader, end_of
from agentd.turn.rounds import CodeJob, Round, RoundJob, block_job, native_job, record_blocks, record_calls
from agentd.turn.spending import Spending, around
from agentd.turn.transcript import Execution, Transcript
from agentd.types import Block, Budgets, StopReason, Usage

if TYPE_CHECKING:
    from agentd.notation import Notation
    from agentd.protocols import Executor, Model, Offers

__all__ = ["TurnLoop"]

FATAL = (errors.ExecutorClosedError, errors.RunnerStartError, errors.SandboxUnavailableError)
"""Executor errors that the model can do nothing about: they end the run at once."""

TOO_LONG = "the answer was cut off at {:,} characters (max_answer_chars)"
TOKEN_LIMIT = "your answer was cut off at the token limit"
CUT_FILE_NOTE = (
    "text followed the end of {!r} on the very next line; if it belongs to the file, a fence in the file has ended the "
    "block and the file is not complete: write it again in a longer fence (````)"
)
_SIDE_BY_SIDE = 4  # blocks of a round, with which each one's share of what the model reads is reckoned
WALL_TIME_NOTE = "the time of this run is over; code that still ran was stopped"


@attrs.define(kw_only=True, eq=False)
class TurnLoop:
    """One run: rounds of model and blocks until an answer without blocks, a budget or an error.

    :param executor: None if there is no code to run.
    :param notations: in which blocks are written, the first one is what the model was taught; none if it calls tools
        natively.
    :param offers: what the model may call natively. Without it, native calls count for nothing.
    :param transcript: what is said and done is appended here; `transcript.usage` is added to.
    :param after_turn: awaited after each round that was recorded.
    :param reviews: asked about the answer that would end the run: each returns what the model is told if it must answer
        again, once.
    :param news: asked after each round that did something, with the ids of its actions, for what the model must be told
        beside the results.
    :param catch_up: gives `tool_called` what is on its way, before an end is told; `give_up`: and ends calls under way.
    :param ids: names for the actions, unique for the executor; without it `code_1`, `code_2`, ...
    """

    model: Model
    executor: Executor | None
    notations: Sequence[Notation] = ()
    offers: Offers | None = None
    transcript: Transcript = attrs.field(factory=Transcript)
    budgets: Budgets = attrs.field(factory=Budgets)
    listener: Listener = attrs.field(factory=Listener)
    ids: Callable[[], str] = attrs.field(factory=lambda: map("code_{}".format, count(1)).__next__)
    news: Callable[[list[str]], Awaitable[list[str]]] | None = None
    catch_up: Callable[..., None] = lambda **_: None
    after_turn: Callable[[], Awaitable[None]] | None = None
    reviews: list[Callable[[str], str]] = attrs.field(factory=list)
    spending: Spending = attrs.field(init=False)
    turns: int = attrs.field(init=False, default=0)
    tool_calls: int = attrs.field(init=False, default=0)
    text: str = attrs.field(init=False, default="")
    error: str = attrs.field(init=False, default="")
    running: dict[str, OutputRelay] = attrs.field(init=False, factory=dict)
    _was_empty: bool = attrs.field(init=False, default=False)
    _told: list[str] = attrs.field(init=False, factory=list)
    _calls: dict[str, RoundJob] = attrs.field(init=False, factory=dict)
    _rejected: int = attrs.field(init=False, default=0)
    _broken: int = attrs.field(init=False, default=0)
    began: float = attrs.field(init=False, default=0.0)
    call_loop: LoopCaller | None = attrs.field(init=False, default=None)

    # --- the run -------------------------------------------------------------------------------

    async def run(self, task: str = "") -> events.RunEnd:
        """Run until the end and say why it ended.

        Raises `ModelError`, `ExecutorError` and whatever a plugin raises, after a `RunEnd` event that holds
        the error. Cancelled, it stops all code first; the event then says `cancelled`.
        """
        self.began = time.monotonic()
        self.spending = Spending(self.budgets.max_cost_usd, run=self)
        spent_around = around.set(self.spending)
        self.call_loop = loop_caller()
        place = getattr(self.executor, "plugin_name", "")
        self.listener.emit(events.RunStart(task=task, model=self.model.name, executor=place))
        reason: StopReason = "cancelled"
        try:
            reason = await self._rounds()
        except Exception as exc:
            reason, self.error = "error", f"{type(exc).__name__}: {exc}"
            raise
        finally:
            around.reset(spent_around)
            self.spending.run = None
            self.catch_up()  # a quick run would end before it is handed what was on its way
            usage = self.spending.total()
            end = events.RunEnd(
                stop_reason=reason, text=self.text, turns=self.turns, usage=usage, error=self.error
            )
            self.listener.emit(end)
        return end

    async def _rounds(self) -> StopReason:
        while True:  # the first round is within every limit but the one around, for each is above 0
            if self._costs_too_much():
                return "cost"
            self.turns += 1
            reason = await self._one_round()
            if self.after_turn is not None:
                await self.after_turn()
                self.catch_up()  # of the time that this took
            elapsed = time.monotonic() - self.began
            reason = reason or self.budgets.exceeded(
                turns=self.turns, elapsed_s=elapsed, usage=self.spending.total(), tool_calls=self.tool_calls
            )
            if reason:
                return reason
            if self.offers is not None and self.offers.refresh():
                self.model.offer(self.offers.offered)

    async def _one_round(self) -> StopReason | None:
        rnd = Round(turn=self.turns, spent_before=len(self.spending.requests))
        rnd.answer = AnswerReader(self.listener, self.ids, partial(self._block, rnd))
        try:
            await self._play(rnd)
            if rnd.jobs and self.news is not None and not rnd.over_time:
                with anyio.CancelScope(deadline=self._deadline()) as scope:
                    self._told = await self.news([job.id for job in rnd.jobs])
                rnd.over_time = scope.cancelled_caught
        finally:
            reason = self._settle(rnd)
            del rnd.answer  # it knows the round: both would stay until the garbage collector comes
        if rnd.failure is not None:
            raise rnd.failure
        return reason

    async def _play(self, rnd: Round) -> None:
        """Read one answer and run its blocks. Errors are put into the round: a task group would wrap them."""
        answer = rnd.answer
        async with anyio.create_task_group() as group:
            rnd.group = group
            group.cancel_scope.deadline = self._deadline()
            try:
                async with self.model.stream() as events:
                    answer.begin(self.notations, last=self.transcript.last_answer)
                    begun = 0
                    async for event in events:
                        self._take(rnd, event)
                        if answer.is_cut or self._is_too_long(rnd):
                            break
                        for job in rnd.jobs[begun:]:  # it starts before more is read of what has come along
                            await job.taken.wait()
                        begun = len(rnd.jobs)
                        if self.listener.is_full():
                            await self.listener.flow()
                self._bill(rnd)
                if not answer.is_cut:
                    answer.close(ended=rnd.finish is None or end_of(rnd.finish.reason) != "cut")
            except Exception as exc:
                self._fail(rnd, exc)
        rnd.over_time = group.cancel_scope.cancelled_caught and rnd.failure is None

    def _deadline(self) -> float:
        """Return when the time of the run is over, by the clock of the event loop."""
        limit = self.budgets.wall_time_s
        return math.inf if limit is None else anyio.current_time() + self.began + limit - time.monotonic()

    def _take(self, rnd: Round, event: ModelEvent) -> None:
        self.listener.model_event(event)
        if isinstance(event, ModelFinish):
            rnd.finish = event
        elif isinstance(event, ModelToolCall):
            self._native(rnd, event)
        else:
            if event.reasoning:
                self.listener.emit(events.ReasoningDelta(event.reasoning))
            rnd.answer.feed(valid_text(event.text))

    def _is_too_long(self, rnd: Round) -> bool:
        """End an answer that never stops: it would fill the memory."""
        limit = self.budgets.max_answer_chars
        if limit is not None and rnd.finish is None and rnd.answer.length + rnd.call_chars > limit:
            rnd.finish = ModelFinish(
                reason="length", detail=TOO_LONG.format(limit), usage=self._estimated(rnd)
            )
            return True
        return False

    # --- doing what the answer asks for ---------------------------------------------------------------

    def _block(self, rnd: Round, id: str, block: Block) -> None:
        forms = "\n\n".join([self.notations[0].forms, *self.notations[0].rules])
        self._begin_job(rnd, block_job(id, block, self.executor, after=rnd.before(block), forms=forms))

    def _native(self, rnd: Round, call: ModelToolCall) -> None:
        """Deal with a native call. Those of the caller's own tools are only noted; behind blocks none counts."""
        offers = self.offers
        if offers is None or rnd.answer.has_blocks:
            return
        rnd.calls.append(call)
        rnd.call_chars += len(call.id) + len(call.name) + len(call.arguments)
        if offers.handles(call.name):
            job = native_job(self.ids(), call, offers, self.executor)
            self.listener.call_begun(job.id, call)
            self._begin_job(rnd, job)

    def _begin_job(self, rnd: Round, job: RoundJob) -> None:
        assert rnd.group is not None
        rnd.jobs.append(job)
        if job.refused:
            job.taken.set()
            job.done.set()
            self._tell_end(rnd, job)
            return
        if not job.after:
            self._tell_start(rnd, job)
        rnd.group.start_soon(self._work, rnd, job)

    def _tell_start(self, rnd: Round, job: RoundJob) -> None:
        assert self.call_loop is not None
        job.started = True
        job.begin = time.monotonic()
        listener = self.listener
        if isinstance(job, CodeJob):

            def show(text: str, stream: str, id: str = job.id) -> None:
                listener.emit(events.CodeOutput(id=id, text=text, stream=stream))  # type: ignore[arg-type]

            job.most_chars = self.budgets.result_chars(_SIDE_BY_SIDE)
            job.relay = self.running[job.id] = OutputRelay(self.call_loop, show, listener.is_full)
        else:
            self._calls[job.id] = job
            self.tool_calls += 1
        if event := job.start_event(rnd.turn):
            listener.emit(event)

    async def _work(self, rnd: Round, job: RoundJob) -> None:
        job.taken.set()
        for other in job.after:
            await other.done.wait()
        if job.after:
            self._tell_start(rnd, job)
        try:
            await job.carry_out()
            job.has_result = True
        except errors.ExecutorError as exc:
            job.error = exc
            job.refused = f"The code could not be run to its end: {exc}"
            if isinstance(exc, FATAL):
                self._fail(rnd, exc)
        except Exception as exc:  # not an error that an executor may raise: a broken plugin
            job.refused = f"The executor failed: {exc!r}"
            self._fail(rnd, exc)
        finally:
            self.running.pop(job.id, None)
            job.done.set()
        self._tell_end(rnd, job)

    def _fail(self, rnd: Round, exc: Exception) -> None:
        assert rnd.group is not None
        rnd.failure = rnd.failure or exc
        rnd.group.cancel_scope.cancel()

    def _tell_end(self, rnd: Round, job: RoundJob) -> None:
        if isinstance(job, CodeJob) and job.relay is not None:
            job.relay.flush(last=True)
        self.catch_up(give_up=job.is_stopped)
        done = self._execution(rnd, job)
        if job.call is not None:
            job.told = job.answer(done)
            self.listener.call_over(job.id, job.told)
        self.listener.emit(job.end_event(done))

    def _execution(self, rnd: Round, job: RoundJob) -> Execution:
        return job.execution(rnd.turn, self.budgets.result_chars(len(rnd.jobs)))

    # --- the end of a round ---------------------------------------------------------------------------

    def _settle(self, rnd: Round) -> StopReason | None:
        """Record the round, whatever became of it, and say whether the run ends here. Never awaits."""
        for job in rnd.jobs:
            if job.is_stopped:
                self.running.pop(job.id, None)
                self._tell_end(rnd, job)
        answer = rnd.answer.counted
        self.text = rnd.answer.prose
        executions = [self._execution(rnd, j) for j in rnd.jobs]
        self.transcript.executions += executions
        notes = self._notes(rnd)
        if rnd.answer.has_blocks:
            record_blocks(self.model, self.transcript, answer, executions, notes)
        else:
            record_calls(self.model, self.transcript, answer, rnd, notes)
        self._count(rnd)
        reason = self._verdict(rnd)
        self.listener.turn_over(answer, cut=rnd.answer.is_cut, last=reason is not None and rnd.is_last)
        return reason

    def _notes(self, rnd: Round) -> list[str]:
        notes, self._told = self._told, []
        if rnd.finish is not None and end_of(rnd.finish.reason) == "cut":
            notes.append(f"{rnd.finish.detail or TOKEN_LIMIT}; what came after the last closed block is lost")
        if rnd.over_time:
            notes.append(WALL_TIME_NOTE)
        last = rnd.jobs[-1] if rnd.answer.goes_on else None
        if isinstance(last, CodeJob) and last.started and last.block.action == "create":
            notes.append(CUT_FILE_NOTE.format(last.block.target))
        return notes

    def _bill(self, rnd: Round) -> None:
        """Count the round's request, once its answer is there: what runs below has so much less to spend."""
        refused = rnd.failure is not None and not rnd.answer.raw and rnd.finish is None
        if not rnd.is_billed and not refused:
            said = Usage() if rnd.finish is None else rnd.finish.usage
            self.spending.add(said if said.total_tokens else self._estimated(rnd))
            rnd.is_billed = True

    def _count(self, rnd: Round) -> None:
        """Add the round's usage, with that of what ran below."""
        self._bill(rnd)
        if rnd.is_billed:
            usage = self.spending.total(rnd.spent_before)
            self.transcript.usage += usage
            self.listener.emit(events.TurnEnd(turn=rnd.turn, usage=usage))

    def _costs_too_much(self) -> bool:
        """Tell whether the next request's input alone would go over the money budget. Raises `ConfigError`."""
        if (left := self.spending.left_usd()) is None:
            return False
        cost = self.model.next_cost_usd() if isinstance(self.model, PricedModel) else None
        if cost is None:
            name = self.model.name
            raise errors.ConfigError(
                f"max_cost_usd: no price of {name!r} is known; prices={{{name!r}: (input, output)}} or -o model.prices"
            )
        return cost > left

    def _estimated(self, rnd: Round) -> Usage:
        """Guess what a provider does not say, of a stream that was closed early, say: 4 characters a token."""
        raw, model = rnd.answer.raw, self.model
        if isinstance(model, EstimatingModel):
            return model.estimate(raw)
        return Usage(output_tokens=len(raw) // 4, requests=1)

    def _verdict(self, rnd: Round) -> StopReason | None:
        if rnd.failure is not None:
            return None
        if rnd.over_time:
            return "wall_time"
        if rnd.is_last:
            return "answer" if rnd.calls or rnd.finish is None else self._end(rnd, rnd.finish)
        self._rejected = self._rejected + 1 if all(not j.started for j in rnd.jobs) else 0
        limit = self.budgets.max_rejected_rounds
        if limit is not None and self._rejected >= limit:
            return "rejected_blocks"
        errors = [j.error for j in rnd.jobs if j.error is not None]
        self._broken = self._broken + 1 if errors else 0
        if self._broken >= 2:  # the model was told once; the executor does not recover
            rnd.failure = errors[0]
        return None

    def _end(self, rnd: Round, finish: ModelFinish) -> StopReason | None:
        """Say how an answer with nothing to do ends the run; None if the model is asked again."""
        end, empty = end_of(finish.reason), not (self.text.strip() or finish.other)
        said = finish.detail or f"the provider ended the answer with {finish.reason!r}"
        self.error = "" if end in ("answer", "paused") else said
        if end == "paused":
            return None
        if end in ("refused", "cut") or (end == "provider_error" and not empty):
            return end
        if empty and self._was_empty:
            rnd.failure = errors.ModelError(f"model {self.model.name!r}: it answered nothing, twice: {said}")
        self._was_empty = empty
        for review in () if empty else tuple(self.reviews):
            if told := review(self.text):
                self.reviews.remove(review)
                self.model.add_results(told)
                self.transcript.add("results", told)
                return None
        return None if empty else "answer"

    # --- from outside, in the loop -----------------------------------------------------------------------

    def resume(self) -> None:
        """Show the output that waited because the reader was behind."""
        for relay in list(self.running.values()):
            relay.flush()

    def tool_called(self, event: ToolEvent) -> None:
        """Count and pass on a tool call that code has made, and pass on what tools report; in the loop."""
        job = self._calls.get(getattr(event, "code_id", ""))
        if isinstance(event, events.ToolCall | events.Approval) and event.decision:
            counts = self.transcript.decisions.setdefault(event.code_id, {})
            told = f"{event.name}: {event.decision}"
            counts[told] = counts.get(told, 0) + 1
        if isinstance(event, events.Approval | events.Picture):
            self.listener.emit(event)
        elif isinstance(event, events.ToolCall):
            if job is None:  # the model's own calls are told of where they are made
                self.tool_calls += 1
                self.listener.emit(event)
        elif not self.listener.is_full():  # a reader that is behind does without
            if isinstance(event, events.ToolProgress) and job is not None:
                if job.told:
                    return  # it is over
                event = attrs.evolve(event, id=job.id, code_id="")
            self.listener.emit(event)

"""A round: one answer of the model, and its blocks and tool calls on their way from found to recorded."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from contextlib import suppress
from functools import partial
from itertools import cycle
from typing import TYPE_CHECKING

import anyio
import attrs

from agentd._concurrency.pool import call_in_thread
from agentd.errors import ExecutorError, ToolInputError
from agentd.events import CodeExecution, CodeStart, Event, ToolCall
from agentd.protocols import JobExecutor, ModelFinish, ModelToolCall, ToolReply, ToolResult, UploadingExecutor
from agentd.turn import transcript as texts
from agentd.turn.observer import OutputRelay
from agentd.turn.transcript import Execution, NativeCall, Transcript
from agentd.types import Action, ActionResult, BashAction, Block

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anyio.abc import TaskGroup

    from agentd.protocols import Executor, Model, Offers
    from agentd.turn.reading import AnswerReader

__all__ = [
    "CodeJob", "Round", "RoundJob", "ToolJob", "block_job", "native_job", "record_blocks",
    "record_calls",
]  # fmt: skip

_EVENT_CHARS = 2000
_SMALL_BYTES = 64 * 1024  # more than this is not decoded in the event loop
_FILES = cycle(range(1, 65))  # of long results: an old one is written over


@attrs.define(eq=False, kw_only=True)
class RoundJob(ABC):
    """Something of the current round that is to be done: a block, or a native call (`call`) of the model."""

    id: str
    call: ModelToolCall | None = None
    after: list[RoundJob] = attrs.field(factory=list)
    taken: anyio.Event = attrs.field(factory=anyio.Event)  # its task has begun, or it needs none
    done: anyio.Event = attrs.field(factory=anyio.Event)
    started: bool = False
    has_result: bool = False  # it came to its own end
    begin: float = 0.0
    refused: str = ""  # what the model reads in place of a result
    error: ExecutorError | None = None
    told: str = ""  # what the model reads about the call
    _record: tuple[int, Execution] | None = None

    @property
    def is_stopped(self) -> bool:
        """True if it ended without a result or a reason for having none."""
        return not self.done.is_set() or not (self.has_result or self.refused)

    @property
    @abstractmethod
    def asked(self) -> tuple[str, str]:
        """What was asked for, as the record has it: header and code."""

    @abstractmethod
    async def carry_out(self) -> None:
        """Do it, and keep the result."""

    def start_event(self, turn: int) -> Event | None:
        """Return what tells that it starts, if something does."""
        return None

    @abstractmethod
    def end_event(self, done: Execution) -> Event:
        """Return what tells that it is over."""

    @abstractmethod
    def outcome(self, limit: int) -> tuple[str, str, int, float]:
        """Return output (at most `limit` characters), status, exit code and wall time, as far as it got."""

    def execution(self, turn: int, limit: int) -> Execution:
        """Return the record with at most `limit` characters of output. It is over: for one limit, there is one."""
        if self._record is not None and self._record[0] == limit:
            return self._record[1]
        header, code = self.asked
        output, status, exit_code, wall_s = self.outcome(limit)
        done = Execution(
            id=self.id,
            turn=turn,
            header=header,
            code=code,
            output=output,
            status=status,
            exit_code=exit_code,
            wall_s=wall_s,
        )
        self._record = limit, done
        return done

    def answer(self, done: Execution) -> str:
        """Return what the model reads if this is a native call."""
        return done.output


@attrs.define(eq=False, kw_only=True)
class CodeJob(RoundJob):
    """A block, or a call of the native `bash` tool."""

    block: Block
    action: Action | None
    executor: Executor
    relay: OutputRelay | None = None
    result: ActionResult | None = None
    most_chars: int = 0  # that the model reads of a result: what is longer goes to a file
    file: str = ""  # has all of a longer one

    @property
    def asked(self) -> tuple[str, str]:
        return texts.header(self.block), self.block.source

    async def carry_out(self) -> None:
        assert self.action is not None
        assert self.relay is not None
        result = await self.executor.run(self.action, action_id=self.id, on_output=self.relay.feed)
        self.result = result
        if len(result.output) > self.most_chars and isinstance(self.executor, UploadingExecutor):
            file = f".agentd/results/{next(_FILES)}.txt"
            with suppress(ExecutorError):  # a full disk, say
                await self.executor.upload(file, result.output.encode("utf-8", "replace"))
                self.file = file

    def start_event(self, turn: int) -> Event:
        block = self.block
        return CodeStart(
            id=self.id, code=block.source, action=block.action, target=texts.target_of(block), turn=turn
        )

    def end_event(self, done: Execution) -> Event:
        return CodeExecution(
            id=self.id,
            code=self.block.source,
            output=done.output,
            status="completed" if done.status == "completed" else "failed",
            exit_code=done.exit_code,
            action=self.block.action,
            target=texts.target_of(self.block),
            wall_s=done.wall_s,
        )

    def outcome(self, limit: int) -> tuple[str, str, int, float]:
        result = self.result
        if result is not None:
            return texts.output_text(result, limit, self.file), result.status, result.exit_code, result.wall_s
        if self.refused:
            kept = self.relay.partial(self.refused) if self.relay else None
            output = texts.output_text(kept, limit) if kept else self.refused
            return output, ("error" if self.error else "rejected"), 126, 0.0
        if self.relay is not None:
            output = texts.output_text(self.relay.partial("(stopped before its end)"), limit)
            return output, "cancelled", 130, time.monotonic() - self.begin
        return "(not started)", "cancelled", 130, 0.0

    def answer(self, done: Execution) -> str:
        return texts.bash_text(done)


@attrs.define(eq=False, kw_only=True)
class ToolJob(RoundJob):
    """A native call of a tool."""

    call: ModelToolCall
    offers: Offers
    reply: ToolReply | None = None
    text: str = ""  # the reply as the model reads it, not cut yet
    end: float = 0.0

    @property
    def asked(self) -> tuple[str, str]:
        return f"{self.call.name}:call", self.call.arguments

    async def carry_out(self) -> None:
        reply = await self.offers.run(self.call, self.id)
        if len(reply.payload) <= _SMALL_BYTES:
            self.text = self.offers.text(reply)
        else:
            self.text = await call_in_thread(partial(self.offers.text, reply))
        self.reply, self.end = reply, time.monotonic()

    def end_event(self, done: Execution) -> Event:
        return ToolCall(
            id=self.id,
            name=self.call.name,
            arguments=_readable(done.code),
            result=_readable(done.output),
            status="completed" if done.status == "completed" else "failed",
            wall_s=done.wall_s,
        )

    def outcome(self, limit: int) -> tuple[str, str, int, float]:
        wall_s = (self.end or time.monotonic()) - self.begin if self.started else 0.0
        if self.reply is not None:
            status, exit_code = ("completed", 0) if self.reply.ok else ("failed", 1)
            return texts.cut_middle(self.text, limit), status, exit_code, wall_s
        if self.refused:
            return texts.cut_middle(self.refused, limit), "rejected", 1, wall_s
        return ("(stopped before its end)" if self.started else "(not started)"), "cancelled", 1, wall_s


def block_job(
    id: str, block: Block, executor: Executor | None, *, after: list[RoundJob], forms: str
) -> RoundJob:
    """Return the job for a block of the answer. `forms` is what a rejection shows."""
    assert executor is not None
    action = texts.action_of(block)
    if isinstance(action, BashAction) and action.job is not None and not isinstance(executor, JobExecutor):
        action = None
    refused = "" if action is not None else texts.rejection(block, forms)
    return CodeJob(id=id, block=block, action=action, executor=executor, after=after, refused=refused)


def native_job(id: str, call: ModelToolCall, offers: Offers, executor: Executor | None) -> RoundJob:
    """Return the job for a native call that is ours to answer."""
    if not offers.is_bash(call.name):
        return ToolJob(id=id, call=call, offers=offers, refused=offers.refusal(call.name))
    assert executor is not None
    refused = ""
    try:
        block = offers.command(call)
    except ToolInputError as exc:
        block, refused = Block("bash", "execute", call.arguments, "bash"), f"ToolInputError: {exc}"
    action = None if refused else BashAction(command=block.source)
    return CodeJob(id=id, call=call, block=block, action=action, executor=executor, refused=refused)


def _readable(text: str) -> str:
    return text if len(text) <= _EVENT_CHARS else f"{text[:_EVENT_CHARS]}..."


@attrs.define(eq=False)
class Round:
    """One answer of the model, with its blocks or its native calls."""

    turn: int
    spent_before: int = 0  # requests of the run before this one
    is_billed: bool = False
    answer: AnswerReader = attrs.field(init=False)
    group: TaskGroup | None = None
    jobs: list[RoundJob] = attrs.field(factory=list)
    calls: list[ModelToolCall] = attrs.field(factory=list)  # all native calls, the caller's too
    call_chars: int = 0  # in their names and arguments
    finish: ModelFinish | None = None
    over_time: bool = False
    failure: BaseException | None = None

    @property
    def is_last(self) -> bool:
        """Whether the model waits for nothing of ours: it has answered, or calls the caller's own tools."""
        return not self.jobs or (not self.answer.has_blocks and len(self.calls) > len(self.jobs))

    def before(self, block: Block) -> list[RoundJob]:
        """Return what must be done before the block: everything before a create block, each such block before the
        rest."""
        running = [j for j in self.jobs if not j.done.is_set()]
        if block.action == "create":
            return running
        return [j for j in running if isinstance(j, CodeJob) and j.block.action == "create"]


# --- what a round leaves behind: messages of the model's conversation and of the transcript ----------------


def record_blocks(
    model: Model, transcript: Transcript, answer: str, executions: Sequence[Execution], notes: Sequence[str]
) -> None:
    """Record an answer with blocks (cut after the last of them) and what they gave."""
    model.add_answer(answer)
    transcript.add("answer", answer)
    results = texts.format_results(executions, notes)
    model.add_results(results)
    transcript.add("results", results)


def record_calls(model: Model, transcript: Transcript, answer: str, rnd: Round, notes: Sequence[str]) -> None:
    """Record an answer with native calls and what ours gave, or an answer with nothing to do."""
    called = [NativeCall(id=c.id, name=c.name, arguments=c.arguments) for c in rnd.calls]
    if called:
        model.add_answer(answer, rnd.calls)
    elif answer:
        model.add_answer(answer)
    if called or answer:
        transcript.add("answer", answer, called)
    results = [ToolResult(call_id=j.call.id, output=j.told) for j in rnd.jobs if j.call is not None]
    if not results:
        return
    results[-1] = attrs.evolve(results[-1], output=texts.with_notes(results[-1].output, notes))
    model.add_tool_results(results)
    outputs = {r.call_id: r.output for r in results}
    answered = [attrs.evolve(c, output=outputs[c.id]) for c in called if c.id in outputs]
    transcript.add("results", "", answered)

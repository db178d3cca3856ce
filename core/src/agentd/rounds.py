"""A round: one answer of the model, and its blocks on their way from found to done."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import anyio
import attrs

from agentd.errors import ExecutorError
from agentd.protocols import ModelFinish
from agentd.relay import OutputRelay
from agentd.results import header, output_text
from agentd.transcript import Execution
from agentd.types import Action, ActionResult, Block

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from agentd.parsing import ParserStack

__all__ = ["Job", "Round"]


@attrs.define(eq=False)
class Job:
    """A block of the current round, on its way from found to done."""

    id: str
    block: Block
    action: Action | None
    after: list[Job]
    relay: OutputRelay | None = None
    done: anyio.Event = attrs.field(factory=anyio.Event)
    started: bool = False
    begin: float = 0.0
    result: ActionResult | None = None
    refused: str = ""  # what the model reads in place of a result
    error: ExecutorError | None = None

    @property
    def target(self) -> str:
        """The language, or the path of a create block."""
        block = self.block
        return block.target if block.action == "create" or not block.language else block.language

    def outcome(self, limit: int) -> tuple[str, str, int, float]:
        """Return output, status, exit code and wall time, as far as the job got."""
        result = self.result
        if result is not None:
            return output_text(result, limit), result.status, result.exit_code, result.wall_s
        if self.refused:
            kept = self.relay.partial(self.refused) if self.relay else None
            output = output_text(kept, limit) if kept else self.refused
            return output, ("error" if self.error else "rejected"), 126, 0.0
        if self.relay is not None:
            output = output_text(self.relay.partial("(stopped before its end)"), limit)
            return output, "cancelled", 130, time.monotonic() - self.begin
        return "(not started)", "cancelled", 130, 0.0


@attrs.define(eq=False)
class Round:
    """One answer of the model and its blocks."""

    turn: int
    parser: ParserStack
    group: TaskGroup | None = None
    parts: list[str] = attrs.field(factory=list)
    length: int = 0
    end: int = 0  # where the last block ends: what follows does not count
    gap: str = ""  # blank space behind a block, shown only if another block follows
    prose: list[str] = attrs.field(factory=list)
    jobs: list[Job] = attrs.field(factory=list)
    finish: ModelFinish | None = None
    cut: bool = False
    over_time: bool = False
    failure: BaseException | None = None
    settled: bool = False

    def before(self, block: Block) -> list[Job]:
        """Return what must be done before the block: everything before a create block, each such block before the
        rest."""
        running = [j for j in self.jobs if not j.done.is_set()]
        if block.action == "create":
            return running
        return [j for j in running if j.block.action == "create"]

    def execution(self, job: Job, limit: int) -> Execution:
        """Return the record of a block, as far as it got, with at most `limit` characters of output."""
        output, status, code, wall = job.outcome(limit)
        return Execution(
            id=job.id,
            turn=self.turn,
            header=header(job.block),
            code=job.block.source,
            output=output,
            status=status,
            exit_code=code,
            wall_s=wall,
        )

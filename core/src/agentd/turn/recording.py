"""What a round leaves behind: the messages of the model's conversation and those of the transcript."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs

from agentd.protocols import ToolResult
from agentd.turn.results import format_results, with_notes
from agentd.turn.transcript import Execution, NativeCall, Transcript

if TYPE_CHECKING:
    from agentd.protocols import Model
    from agentd.turn.rounds import Round

__all__ = ["record_blocks", "record_calls"]


def record_blocks(
    model: Model, transcript: Transcript, answer: str, executions: Sequence[Execution], notes: Sequence[str]
) -> None:
    """Record an answer with blocks (cut after the last of them) and what they gave."""
    model.add_answer(answer)
    transcript.add("answer", answer)
    results = format_results(executions, notes)
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
    results[-1] = attrs.evolve(results[-1], output=with_notes(results[-1].output, notes))
    model.add_tool_results(results)
    outputs = {r.call_id: r.output for r in results}
    answered = [attrs.evolve(c, output=outputs[c.id]) for c in called if c.id in outputs]
    transcript.add("results", "", answered)

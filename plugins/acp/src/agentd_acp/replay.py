"""Replay: a conversation that was kept, as the updates by which an editor shows it again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acp.helpers import (
    start_tool_call,
    update_agent_message_text,
    update_agent_thought_text,
    update_user_message_text,
)
from agentd.turn.parser_stack import ParserStack
from agentd.turn.transcript import Execution, Message, Transcript, cut_middle
from agentd_sink_console.neutral import neutral

from agentd_acp.shown import OUTPUT_CHARS, call_title, code_title, diff_of, fenced, parsed, place_of

if TYPE_CHECKING:
    from agentd.notation import Notation
    from agentd.types import Block

__all__ = ["replayed"]


def replayed(transcript: Transcript, notations: Sequence[Notation], cwd: Path) -> Iterator[Any]:
    """Yield updates for all that was said and done; tasks that were taken back are left out.

    :param notations: what the answers' blocks are written in.
    :param cwd: the session's folder.
    """
    done = iter(transcript.executions)
    for number, message in enumerate(transcript.messages):
        if message.role == "task":
            yield update_user_message_text(message.content)
        elif message.role == "answer":
            yield from _answer(message, done, notations, cwd, f"past-{number}")


def _answer(
    message: Message, done: Iterator[Execution], notations: Sequence[Notation], cwd: Path, prefix: str
) -> Iterator[Any]:
    count = 0
    stack = ParserStack([notation.parser for notation in notations])
    for segment in [*stack.feed(message.content), *stack.close()]:
        if segment.kind == "block" and segment.block is not None:
            count += 1
            yield _block(segment.block, next(done, None), cwd, f"{prefix}-{count}")
        elif segment.kind == "reasoning":
            yield update_agent_thought_text(segment.text)
        elif segment.text:
            yield update_agent_message_text(segment.text)
    for call in message.calls:
        count += 1
        yield _call(call.name, call.arguments, next(done, None), f"{prefix}-{count}")


def _block(block: Block, done: Execution | None, cwd: Path, id: str) -> Any:
    is_file = block.action == "create"
    completed = done is not None and done.status == "completed"
    if is_file and completed:
        content = [diff_of(place_of(block.target, cwd), block.source, None)]
    else:
        content = [fenced(block.source, block.language), *_output(done)]
    return start_tool_call(
        id,
        neutral(f"Write {block.target}") if is_file else code_title(block.source, block.target),
        kind="edit" if is_file else "execute",
        status="completed" if completed else "failed",
        content=content,
        raw_output=_result(done),
    )


def _call(name: str, arguments: str, done: Execution | None, id: str) -> Any:
    return start_tool_call(
        id,
        call_title(name, arguments),
        kind="other",
        status="completed" if done is not None and done.status == "completed" else "failed",
        content=_output(done),
        raw_input=parsed(arguments),
        raw_output=_result(done),
    )


def _output(done: Execution | None) -> list[Any]:
    return [fenced(cut_middle(done.output, OUTPUT_CHARS))] if done is not None and done.output else []


def _result(done: Execution | None) -> dict[str, Any] | None:
    if done is None:
        return None
    return {
        "output": neutral(cut_middle(done.output, OUTPUT_CHARS)),
        "exit_code": done.exit_code,
        "wall_s": done.wall_s,
    }

"""From a stream of the SDK's objects to the events of a run, for whoever shows them.

Works for both APIs, for streams of a patched client and for plain ones. A patched stream says in its extra
field `agentd` what is prose and what is code (see `agentd_openai.chat_stream`), so nothing is parsed a
second time.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Any

from agentd import events
from agentd.events import (
    CodeExecution,
    Event,
    ReasoningDelta,
    RunEnd,
    RunStart,
    TextDelta,
    ToolCall,
    TurnEnd,
)
from agentd.types import Usage
from agentd_model_openai.reasoning import DELTAS, chat_reasoning

__all__ = ["display_events", "display_events_async"]

_TYPES = {
    "text_delta": events.TextDelta,
    "reasoning": events.ReasoningDelta,
    "code_delta": events.CodeDelta,
    "code_start": events.CodeStart,
    "code_output": events.CodeOutput,
    "code_execution": events.CodeExecution,
    "tool_call": events.ToolCall,
    "approval": events.Approval,
    "tool_progress": events.ToolProgress,
    "source_log": events.SourceLog,
    "picture": events.Picture,
    "turn_end": events.TurnEnd,
    "run_end": events.RunEnd,
}
_ENDS = ("response.completed", "response.incomplete")


def display_events(stream: Iterable[Any]) -> Iterator[Event]:
    """Iterate over what a stream shows: `text_delta`, `reasoning`, `code_start`, `code_output`, `code_execution`,
    `tool_call`, `tool_progress`, `source_log`, `picture` and `turn_end`; of chat completions `code_delta` as well.

        for event in display_events(stream):
            if event.type == "text_delta":
                print(event.text, end="", flush=True)

    Leaving the iteration early closes the stream, and with it the run.
    """
    try:
        for item in stream:
            yield from _shown(item)
    finally:
        close = getattr(stream, "close", None)
        if close is not None:
            close()


async def display_events_async(stream: AsyncIterable[Any]) -> AsyncIterator[Event]:
    """The same for `AsyncOpenAI`."""
    try:
        async for item in stream:
            for event in _shown(item):
                yield event
    finally:
        close = getattr(stream, "close", None) or getattr(stream, "aclose", None)
        if close is not None:
            await close()


def _shown(item: Any) -> list[Event]:
    told = getattr(item, "agentd", None)
    if told is not None:
        return [e for e in map(_event, told) if not isinstance(e, (RunStart, RunEnd))]
    if getattr(item, "object", "") == "chat.completion.chunk" or hasattr(item, "choices"):
        return _plain_chunk(item)
    return _plain_event(item)


def _event(data: dict[str, Any]) -> Event:
    fields = dict(data)
    kind = _TYPES[fields.pop("type")]
    if isinstance(fields.get("usage"), dict):
        fields["usage"] = Usage(**fields["usage"])
    return kind(**fields)  # type: ignore[no-any-return]


def _plain_chunk(chunk: Any) -> list[Event]:
    """Read a chunk that says nothing of ours: its text is prose."""
    found: list[Event] = []
    for choice in chunk.choices[:1]:
        if reasoning := chat_reasoning(choice.delta):
            found.append(ReasoningDelta(reasoning))
        if choice.delta is not None and choice.delta.content:
            found.append(TextDelta(choice.delta.content))
        if choice.finish_reason:
            found.append(TurnEnd())
    return found


def _plain_event(event: Any) -> list[Event]:
    kind = getattr(event, "type", "")
    if kind == "response.output_text.delta":
        return [TextDelta(event.delta)]
    if kind in DELTAS:
        return [ReasoningDelta(event.delta)]
    if kind == "response.output_item.done" and event.item.type == "code_interpreter_call":
        item = event.item
        logs = "".join(getattr(o, "logs", None) or "" for o in item.outputs or [])
        failed = item.status != "completed"
        return [
            CodeExecution(
                id=item.id,
                code=item.code or "",
                output=logs,
                status="failed" if failed else "completed",
                exit_code=int(failed),
                target="python",
            )
        ]
    if kind == "response.output_item.done" and event.item.type == "mcp_call":
        return [_plain_call(event.item)]
    return [TurnEnd()] if kind in _ENDS else []


def _plain_call(item: Any) -> ToolCall:
    """Read a call that the provider itself has made of an MCP server."""
    failed = bool(item.error) or item.status == "failed"
    return ToolCall(
        id=item.id,
        name=item.name,
        arguments=item.arguments or "",
        result=str(item.error) if item.error else item.output or "",
        status="failed" if failed else "completed",
    )

"""The events of a turn, as the updates that an editor shows."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
from acp.helpers import (
    start_tool_call,
    text_block,
    tool_content,
    update_agent_message_text,
    update_agent_thought_text,
    update_tool_call,
)
from acp.schema import ToolCallLocation
from agentd import events
from agentd.turn.transcript import cut_middle
from agentd_sink_console.neutral import neutral

from agentd_acp.shown import (
    OUTPUT_CHARS,
    call_title,
    code_title,
    diff_of,
    fenced,
    parsed,
    place_of,
)

if TYPE_CHECKING:
    from agentd.events import Event
    from agentd_chat.changes import FileChanges

    from agentd_acp.modes import FileBefore

__all__ = ["Send", "TurnUpdates"]

Send = Callable[[Any], Awaitable[None]]
"""Sends the editor an update of a session."""

FLUSH_S: Final = 0.25
"""Output of code that runs is shown so often."""
_MAX_CHANGED_BYTES: Final = 1 << 20


@attrs.define(eq=False)
class _ShownBlock:
    """A block that the editor knows of."""

    id: str
    action: str
    target: str
    code: str = ""
    output: str = ""
    cut: int = 0  # characters of the output that are not shown any more
    is_new: bool = False  # there is output that was not shown yet

    def add(self, text: str) -> None:
        self.output += text
        if (more := len(self.output) - OUTPUT_CHARS) > 0:
            self.cut += more
            self.output = self.output[more:]
        self.is_new = True


class TurnUpdates:
    """Makes updates of one turn's events.

    :param send: sends an update.
    :param cwd: the session's folder.
    :param before: returns the file that the block with this id was to write over.
    :ivar shown_files: what create blocks have made of files, by path.
    """

    def __init__(self, send: Send, cwd: Path, before: Callable[[str], FileBefore | None]) -> None:
        self._send = send
        self._cwd = cwd
        self._before = before
        self._prefix = secrets.token_hex(4)  # the ids of events are unique in a run alone
        self._blocks: dict[str, _ShownBlock] = {}
        self._calls: set[str] = set()  # tool calls that are shown as running
        self._asked: dict[tuple[str, str], list[str]] = {}  # ids of questions, by block and tool
        self._heard: dict[str, asyncio.Event] = {}
        self.shown_files: dict[str, str] = {}

    def id_of(self, event_id: str) -> str:
        """Return the id by which the editor knows a block, a call or a question."""
        return f"{self._prefix}-{event_id}"

    async def heard(self, question_id: str) -> None:
        """Wait until the editor was told what had happened before a question was put."""
        await self._heard.setdefault(question_id, asyncio.Event()).wait()

    async def handle(self, event: Event) -> None:
        """Tell the editor of an event."""
        match event:
            case events.TextDelta() if event.text:
                await self._send(update_agent_message_text(event.text))
            case events.ReasoningDelta() if event.text:
                await self._send(update_agent_thought_text(event.text))
            case events.CodeDelta():
                if event.id not in self._blocks:
                    await self._announce(event)
            case events.CodeStart():
                await self._begin(event)
            case events.CodeOutput():
                if (block := self._blocks.get(event.id)) is not None:
                    block.add(event.text)
            case events.CodeExecution():
                await self._end(event)
            case events.ToolCall():
                await self._called(event)
            case events.ToolProgress():
                await self._progress(event)
            case events.Approval():
                await self._approval(event)
            case events.Picture():
                named = f"[picture {event.name}: {event.width} x {event.height}, {event.path or 'not kept'}]"
                await self._send(update_agent_message_text(f"\n{neutral(named)}\n"))
            case _:
                pass

    async def flush(self) -> None:
        """Show the output of running code that is new."""
        for block in list(self._blocks.values()):
            if block.is_new and block.id in self._blocks:  # it may have ended while another one was shown
                block.is_new = False
                content = [*self._code(block), *self._output(block)]
                await self._send(
                    update_tool_call(self.id_of(block.id), status="in_progress", content=content)
                )

    async def keep_flushing(self) -> None:
        """Do that again and again, until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_S)
            await self.flush()

    async def close(self) -> None:
        """Say of what has not ended that it will not: the turn is over."""
        for block in self._blocks.values():
            content = [*self._code(block), *self._output(block)]
            await self._send(update_tool_call(self.id_of(block.id), status="failed", content=content))
        left = [*self._calls, *(id for ids in self._asked.values() for id in ids)]
        for id in left:
            await self._send(update_tool_call(self.id_of(id), status="failed"))
        for event in self._heard.values():
            event.set()
        self._blocks.clear()
        self._calls.clear()
        self._asked.clear()

    async def show_changes(self, changes: FileChanges, leave_out: Path) -> None:
        """Show what the turn has changed in files beside its create blocks, whose differences were shown.

        :param leave_out: a folder whose files are agentd's own.
        """
        content, places, left = [], [], _MAX_CHANGED_BYTES
        for change in changes.files:
            path = place_of(change.path, self._cwd)
            if not (change.is_known and change.is_text) or path.is_relative_to(leave_out):
                continue
            old, new = (None if d is None else d.decode("utf-8", "replace") for d in (change.old, change.new))
            size = len(old or "") + len(new or "")
            if size > left or self.shown_files.get(change.path) == new:
                continue
            left -= size
            content.append(diff_of(path, new or "", old))
            places.append(ToolCallLocation(path=str(path)))
        if content:
            title = f"{len(content)} file{'' if len(content) == 1 else 's'} changed in this turn"
            shown = start_tool_call(
                self.id_of("changes"),
                title,
                kind="edit",
                status="completed",
                content=content,
                locations=places,
            )
            await self._send(shown)

    # --- blocks --------------------------------------------------------------------------------------

    async def _announce(self, event: Any) -> None:
        """A block is being written."""
        self._blocks[event.id] = _ShownBlock(event.id, event.action, event.target)
        is_file = event.action == "create"
        title = f"Write {event.target}" if is_file else event.target or "code"
        started = start_tool_call(
            self.id_of(event.id), neutral(title), kind="edit" if is_file else "execute", status="pending"
        )
        await self._send(started)

    async def _begin(self, event: events.CodeStart) -> None:
        if event.id not in self._blocks:
            await self._announce(event)
        block = self._blocks[event.id]
        block.code, block.target, block.action = event.code, event.target, event.action
        if block.action == "create":
            update = update_tool_call(
                self.id_of(block.id),
                status="in_progress",
                raw_input={"path": neutral(block.target), "content": neutral(block.code)},
            )
        else:
            update = update_tool_call(
                self.id_of(block.id),
                title=code_title(block.code, block.target),
                status="in_progress",
                content=self._code(block),
                raw_input={"language": neutral(block.target), "code": neutral(block.code)},
            )
        await self._send(update)

    async def _end(self, event: events.CodeExecution) -> None:
        if event.id not in self._blocks:
            await self._announce(event)
        block = self._blocks.pop(event.id)
        block.code, block.target, block.action = event.code, event.target, event.action
        block.output, block.cut = cut_middle(event.output, OUTPUT_CHARS), 0
        made = block.action == "create" and event.status == "completed"
        before = self._before(block.id)
        path = (
            block.target if before is None else before.path
        )  # the block's own is relative to the shell's directory
        place = place_of(path, self._cwd)
        if made:
            self.shown_files[path] = block.code
            content = [diff_of(place, block.code, None if before is None else before.text)]
        else:
            content = [*self._code(block), *self._output(block)]
        result = {"output": neutral(block.output), "exit_code": event.exit_code, "wall_s": event.wall_s}
        await self._send(
            update_tool_call(
                self.id_of(event.id),
                status=event.status,
                content=content,
                raw_output=result,
                locations=[ToolCallLocation(path=str(place))] if made else None,
            )
        )

    def _code(self, block: _ShownBlock) -> list[Any]:
        if not block.code:
            return []
        return [fenced(block.code, "" if block.action == "create" else block.target)]

    def _output(self, block: _ShownBlock) -> list[Any]:
        if not block.output:
            return []
        note = f"[... {block.cut} characters before]\n" if block.cut else ""
        return [fenced(note + block.output)]

    # --- calls of tools, and questions ---------------------------------------------------------------

    async def _called(self, event: events.ToolCall) -> None:
        """A call is over. A question about it is shown as what it was about."""
        waiting = self._asked.get((event.code_id, event.name))
        asked = waiting.pop(0) if waiting else ""
        id = asked or event.id
        given: dict[str, Any] = {
            "title": call_title(event.name, event.arguments),
            "kind": "other",
            "status": event.status,
            "content": [fenced(cut_middle(event.result, OUTPUT_CHARS))] if event.result else [],
            "raw_input": parsed(event.arguments),
            "raw_output": parsed(event.result),
        }
        if asked or id in self._calls:
            self._calls.discard(id)
            await self._send(update_tool_call(self.id_of(id), **given))
        else:
            await self._send(start_tool_call(self.id_of(id), **given))

    async def _progress(self, event: events.ToolProgress) -> None:
        said = event.message or "working"
        if event.total:
            said += f" ({event.done:g} of {event.total:g})"
        content = [tool_content(text_block(neutral(said)))]
        if event.id in self._calls:
            await self._send(update_tool_call(self.id_of(event.id), status="in_progress", content=content))
            return
        self._calls.add(event.id)
        shown = start_tool_call(
            self.id_of(event.id), neutral(event.name), kind="other", status="in_progress", content=content
        )
        await self._send(shown)

    async def _approval(self, event: events.Approval) -> None:
        """Somebody is asked. The question itself is a request, which the approver sends."""
        if not event.decision:
            if event.kind == "tool":
                self._asked.setdefault((event.code_id, event.name), []).append(event.id)
            self._heard.setdefault(event.id, asyncio.Event()).set()

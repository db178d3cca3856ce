"""The responses API, streamed: several rounds of events become one coherent stream.

One `response.created`, one `response.completed` (`response.incomplete` if a budget ended the run) with the
sum of the usage and all items; sequence numbers and output indices rise over all rounds. It is one response
with one id, that of the first round. The provider goes on from the last round's: the completed response names that id
in its field `agentd`, and a patched client puts it in place of the first one (`PatchState.goes_on_from`). A block is
a `code_interpreter_call` item; while it runs, `response.code_interpreter_call.interpreting` is repeated. A
native call of one of our tools is an `mcp_call` item, done when its result is there; its output stands in it if
`include=["tool_call.results"]` asked for it. The caller's own calls stay `function_call` items.
Where the caller reads the answer as JSON (`text.format`), only the last answer's message is sent, when it is known to
be the last.
What agentd adds is an extra field `agentd`, a list of events (`agentd.events`, as dicts), with the same
meaning as for chat (see `agentd_openai.chat_stream`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs
from agentd.events import (
    CodeDelta,
    CodeExecution,
    CodeOutput,
    CodeStart,
    Event,
    ReasoningDelta,
    RunEnd,
    RunStart,
    TextDelta,
    ToolCall,
    as_dict,
)
from agentd.protocols import ModelEvent, ModelFinish, ModelToolCall
from agentd_model_openai.reasoning import DELTAS
from agentd_model_openai.responses import CALLS

from agentd_openai.item_stream import ADDED, DONE, TEXT, ItemStream
from agentd_openai.native_items import marker, mcp_item
from agentd_openai.responses_request import add_usage, incomplete

if TYPE_CHECKING:
    from agentd.turn.observer import SinkGroup

    from agentd_openai.collector import RunningCall

__all__ = ["ResponsesStreamer"]

BEGINNINGS = ("response.created", "response.queued", "response.in_progress")
ARGUMENTS = "response.function_call_arguments"
MCP = "response.mcp_call"


@attrs.define(eq=False)
class _OpenItem:
    """An item that was begun in this round: our index, and for messages what of its text was sent."""

    index: int
    item: Any
    text: str = ""
    part: int | None = None  # the text part that is open
    id: str = ""  # in place of the provider's, which an earlier round had too


@attrs.define(eq=False)
class _StreamedNative:
    """A native call of ours: our index and id of its item, and what the model reads."""

    index: int
    id: str
    call: ModelToolCall
    answer: str = ""


class ResponsesStreamer(ItemStream):
    """Makes the one stream. `out` takes the events."""

    def __init__(self, sinks: SinkGroup, out: Callable[[Any], None], *, call: RunningCall) -> None:
        super().__init__(sinks, out)
        self._call = call
        self._turn = 0
        self._natives: dict[str, _StreamedNative] = {}  # by the id of their events
        self._sent: set[str] = set()
        self._ids: set[str] = set()  # of the items that were sent
        self.id = ""
        """The id of the stream: that of the first round's response."""
        self.response: Any = None
        """The last round's response."""
        self._begin_round()

    def _begin_round(self) -> None:
        self._turn += 1
        self._mcp: dict[
            int, _StreamedNative
        ] = {}  # calls of ours that are being written, by the provider's index
        self._held: deque[tuple[Any, int, int]] = deque()
        self._length = 0
        self._certain = 0
        self._has_blocks = False
        self._prose: list[dict[str, Any]] = []
        self._open: dict[int, _OpenItem] = {}  # by the provider's index
        self._ignored: set[int] = set()
        self._in_event = ""  # reasoning that the provider's event itself carries

    @property
    def has_answer(self) -> bool:
        """See `Collector`."""
        return self.response is not None

    # --- from the loop ---------------------------------------------------------------------------------

    def model_event(self, event: ModelEvent) -> None:
        raw: Any = event.raw
        if isinstance(event, ModelFinish):
            self.response = raw.response
            return
        if isinstance(event, ModelToolCall):
            return  # its events came before it
        kind = raw.type
        if kind in BEGINNINGS:
            self.response = raw.response
            self.id = self.id or raw.response.id
            if kind not in self._sent:
                self._sent.add(kind)
                raw.response = raw.response.model_copy(update={"id": self.id})
                self.send(raw)
            return
        self._in_event = event.reasoning if kind in DELTAS else ""
        if kind in DELTAS:  # the summary of what was told already brings none
            raw.agentd = [as_dict(ReasoningDelta(event.reasoning))] if event.reasoning else []
        start, self._length = self._length, self._length + len(event.text)
        begins = kind == ADDED and (
            self._has_blocks or (self._call.holds_text and raw.item.type == "message")
        )
        if event.text or self._held or begins:
            self._held.append((raw, start, self._length))
        else:
            self._pass(raw)

    def certain(self, end: int) -> None:
        self._certain = end
        self._release()

    def parsed(self) -> None:
        if not self._has_blocks:
            self._release()
            self.riders += self._take_prose()  # what the parser had held back

    def on_event(self, event: Event) -> None:
        if isinstance(event, TextDelta):
            self._prose.append({"type": "text_delta", "text": event.text})
        elif isinstance(event, ReasoningDelta) and event.text == self._in_event:
            self._in_event = ""
        elif isinstance(event, CodeStart):
            self._has_blocks = event.id not in self._natives
            self.begin_code(event)
        elif isinstance(event, CodeExecution):
            self._has_blocks = event.id not in self._natives
            native = self._natives.pop(event.id, None)
            extra = None if native is None else marker(native.call, native.answer, turn=self._turn)
            self.end_code(event, extra)
        elif isinstance(event, CodeOutput):
            self.interpreting(event.id, as_dict(event))
        elif isinstance(event, ToolCall) and event.id in self._natives:
            self._end_tool(self._natives.pop(event.id), event)
        elif isinstance(event, RunEnd):
            if event.stop_reason not in ("error", "cancelled"):
                self._finish(event)
        # No item is there yet that could carry what comes before its start.
        elif not isinstance(event, RunStart | CodeDelta):
            code_id = getattr(event, "code_id", "")
            if code_id in self.code:
                self.interpreting(code_id, as_dict(event))
            else:
                self.riders.append(as_dict(event))

    def round_over(self, *, last: bool) -> None:
        if last and self._call.holds_text:
            self._certain = self._length
            self._release(held=True)
        for entry in self._open.values():
            self._close(entry)
        self._begin_round()

    # --- the provider's events ------------------------------------------------------------------------

    def _release(self, *, held: bool = False) -> None:
        if self._call.holds_text and not held:
            return
        events = []
        text = ""
        while self._held:
            raw, start, end = self._held[0]
            if end <= self._certain:
                self._held.popleft()
            elif start < self._certain:
                raw = self._split(raw, start, end)
            else:
                break
            events.append(raw)
            if raw.type == TEXT:
                text += raw.delta
        prose = self._take_prose()
        if text != "".join(p["text"] for p in prose):
            for raw in events:
                if raw.type == TEXT:
                    raw.agentd, prose = prose, []
            self.riders += prose
        for raw in events:
            self._pass(raw)

    def _split(self, raw: Any, start: int, end: int) -> Any:
        at = self._certain - start
        head = raw.model_copy(update={"delta": raw.delta[:at], "logprobs": []})
        raw.delta = raw.delta[at:]
        raw.logprobs = []
        self._held[0] = (raw, self._certain, end)
        return head

    def _take_prose(self) -> list[dict[str, Any]]:
        prose, self._prose = self._prose, []
        return prose

    def _pass(self, raw: Any) -> None:
        """Send a provider's event under our index."""
        theirs = getattr(raw, "output_index", None)
        if theirs is None:
            self.send(raw)
            return
        if theirs in self._ignored:
            return
        kind = raw.type
        if theirs in self._mcp or self._is_ours(getattr(raw, "item", None)):
            self._pass_tool(theirs, raw)
            return
        if kind == ADDED:
            if self._has_blocks and raw.item.type in CALLS:
                self._ignored.add(theirs)  # made without the results of the blocks
                return
            self._open[theirs] = _OpenItem(self.new_index(), raw.item, id=self._new_id(raw.item))
        entry = self._open.get(theirs)
        if entry is None:  # a server that leaves out the beginnings
            entry = self._open[theirs] = _OpenItem(self.new_index(), getattr(raw, "item", None))
        raw.output_index = entry.index
        if entry.id and kind in (ADDED, DONE):
            raw.item = raw.item.model_copy(update={"id": entry.id})
        elif entry.id:
            raw.item_id = entry.id
        if kind == TEXT:
            entry.text += raw.delta
            entry.part = raw.content_index
        elif kind == "response.content_part.done":
            entry.part = None
        elif kind == DONE:
            self.items[entry.index] = raw.item
            del self._open[theirs]
            self._ignored.add(theirs)
        self.send(raw)

    def _new_id(self, item: Any) -> str:
        """Return an id for an item whose own has been there already, or an empty string."""
        own = str(getattr(item, "id", None) or "")
        renamed = f"{own}_{self._turn}" if own in self._ids else ""
        self._ids.add(renamed or own)
        return renamed

    def _close(self, entry: _OpenItem) -> None:
        """End an item whose end did not come: the answer was cut there."""
        item = entry.item
        if item is None:
            return
        if entry.id:
            item = item.model_copy(update={"id": entry.id})
        if item.type == "message":
            part = {"type": "output_text", "text": entry.text, "annotations": []}
            if entry.part is not None:
                place = {"item_id": item.id, "output_index": entry.index, "content_index": entry.part}
                self.make(
                    "ResponseTextDoneEvent",
                    "response.output_text.done",
                    text=entry.text,
                    logprobs=[],
                    **place,
                )
                self.make("ResponseContentPartDoneEvent", "response.content_part.done", part=part, **place)
            content = [part] if entry.text else []
            item = type(item).model_validate({**item.to_dict(), "status": "completed", "content": content})
        self.items[entry.index] = item
        self.make("ResponseOutputItemDoneEvent", DONE, item=item, output_index=entry.index)

    # --- native calls of ours --------------------------------------------------------------------------

    def _is_ours(self, item: Any) -> bool:
        return getattr(item, "type", "") == "function_call" and self._call.offers.handles(item.name)

    def _pass_tool(self, theirs: int, raw: Any) -> None:
        """Send the event of a call of ours as one of an `mcp_call` item. A call of `bash` is shown when it runs."""
        native = self._mcp.get(theirs)
        if native is None:
            if self._call.offers.is_bash(raw.item.name):
                self._ignored.add(theirs)
                return
            native = self._begin_tool(raw.item)
            self._mcp[theirs] = native
        place = {"item_id": native.id, "output_index": native.index}
        if raw.type == f"{ARGUMENTS}.delta":
            self.make(
                "ResponseMcpCallArgumentsDeltaEvent", f"{MCP}_arguments.delta", delta=raw.delta, **place
            )
        elif raw.type == f"{ARGUMENTS}.done":
            text = raw.arguments
            self.make("ResponseMcpCallArgumentsDoneEvent", f"{MCP}_arguments.done", arguments=text, **place)
        elif raw.type == DONE:
            native.call = _called(raw.item)
            self._ignored.add(theirs)  # it is done when its result is there

    def _begin_tool(self, item: Any) -> _StreamedNative:
        call = _called(item)
        begun = mcp_item(call, self._call.offers, status="in_progress", turn=self._turn)
        native = _StreamedNative(self.new_index(), begun.id, call)
        place = {"output_index": native.index}
        self.make("ResponseOutputItemAddedEvent", ADDED, item=begun, **place)
        self.make("ResponseMcpCallInProgressEvent", f"{MCP}.in_progress", item_id=begun.id, **place)
        return native

    def call_begun(self, id: str, call: ModelToolCall) -> None:
        native = next((n for n in self._mcp.values() if n.call.id == call.id), None)
        if self._call.offers.is_bash(call.name):
            native = _StreamedNative(-1, "", call)
        elif native is None:  # a server that sends items only with the end
            native = self._begin_tool(call.raw)
        native.call = call
        self._natives[id] = native

    def call_over(self, id: str, answer: str) -> None:
        self._natives[id].answer = answer

    def _end_tool(self, native: _StreamedNative, done: ToolCall) -> None:
        item = mcp_item(
            native.call,
            self._call.offers,
            status=done.status,
            turn=self._turn,
            output=native.answer,
            shown=self._call.wants_results(),
            results=self._call.wants_results(),
        )
        item.id = native.id
        name = "ResponseMcpCallCompletedEvent" if done.status == "completed" else "ResponseMcpCallFailedEvent"
        place = {"output_index": native.index}
        self.make(name, f"{MCP}.{done.status}", item_id=native.id, **place)
        self.items[native.index] = item
        self.make("ResponseOutputItemDoneEvent", DONE, item=item, agentd=[as_dict(done)], **place)

    # --- the end -----------------------------------------------------------------------------------------

    def _finish(self, end: RunEnd) -> None:
        response = self.response
        if response is None:
            return
        answered = end.stop_reason in ("answer", "refused")  # a refusal may be a whole answer
        status = getattr(response, "status", None) if answered else "incomplete"
        status = status if status in ("completed", "incomplete") else "completed"
        changes: dict[str, Any] = {
            "id": self.id or response.id,
            "agentd": self._call.record(
                stop_reason=end.stop_reason,
                turns=end.turns,
                cost_usd=end.usage.cost_usd,
                unpriced_requests=end.usage.unpriced_requests,
                response_id=response.id,
            ),
            "output": [i for i in self.items if i is not None],
            "usage": add_usage(end.usage),
            "status": status,
        }
        if status == "incomplete":
            changes["incomplete_details"] = incomplete(end.stop_reason)
        final = response.model_copy(update=changes)
        name = "ResponseCompletedEvent" if status == "completed" else "ResponseIncompleteEvent"
        self.make(name, f"response.{status}", response=final, agentd=[as_dict(end)])


def _called(item: Any) -> ModelToolCall:
    return ModelToolCall(id=item.call_id, name=item.name, arguments=item.arguments or "", raw=item)

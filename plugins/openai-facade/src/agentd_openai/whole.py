"""Whole answers: of the objects of several rounds, the one that the caller gets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
from agentd.events import Event, RunEnd
from agentd.protocols import ModelEvent, ModelToolCall
from agentd_model_openai.responses import CALLS

from agentd_openai import chat_request, responses_request
from agentd_openai.collector import Collector
from agentd_openai.native_items import marker, mcp_item

if TYPE_CHECKING:
    from agentd.turn.observer import SinkGroup
    from agentd.turn.transcript import Execution

    from agentd_openai.collector import RunningCall

__all__ = ["WholeAnswer"]


@attrs.define(eq=False)
class _Native:
    """A native call of ours: the id of its events, and what the model read."""

    id: str
    call: ModelToolCall
    turn: int
    answer: str = ""
    status: str = "completed"


class WholeAnswer(Collector):
    """Keeps the object of each round with calls of ours, and the last one."""

    def __init__(self, sinks: SinkGroup, call: RunningCall) -> None:
        super().__init__(sinks)
        self._call = call
        self._raw: Any = None
        self._rounds: list[tuple[Any, list[_Native]]] = []
        self._natives: dict[str, _Native] = {}
        self._current: list[_Native] = []

    @property
    def has_answer(self) -> bool:
        """See `Collector`."""
        return self._raw is not None

    # --- from the loop ---------------------------------------------------------------------------------

    def model_event(self, event: ModelEvent) -> None:
        if not isinstance(event, ModelToolCall) and event.raw is not None:
            self._raw = event.raw

    def call_begun(self, id: str, call: ModelToolCall) -> None:
        self._natives[id] = native = _Native(id, call, len(self._rounds) + 1)
        self._current.append(native)

    def call_over(self, id: str, answer: str) -> None:
        self._natives[id].answer = answer

    def on_event(self, event: Event) -> None:
        if event.type in ("tool_call", "code_execution") and event.id in self._natives:
            self._natives[event.id].status = event.status

    def round_over(self, *, last: bool) -> None:
        self._rounds.append((self._raw, self._current))
        self._current = []

    # --- what comes back -------------------------------------------------------------------------------

    def finished(self, end: RunEnd) -> Any:
        """Return the last round's object, made the answer of the whole run."""
        raw = self._raw
        finish = self._response if self._call.api == "responses" else self._completion
        finish(raw, end, end.stop_reason == "answer")
        return raw

    def _completion(self, raw: Any, end: RunEnd, _answered: bool) -> None:
        choice = raw.choices[0]
        raw.usage = chat_request.add_usage(end.usage)
        choice.finish_reason = chat_request.finish_reason(choice.finish_reason, end.stop_reason)
        if not self._natives:
            return
        if self._rounds[-1][1]:
            # the providers give no unique ids, so by their names
            offers = self._call.offers
            left = [c for c in choice.message.tool_calls or () if not offers.handles(_name(c))]
            choice.message.tool_calls = left or None
        choice.message.agentd = {"messages": self._call.added()}

    def _response(self, raw: Any, end: RunEnd, answered: bool) -> None:
        if self._natives:
            raw.output = self._items()
        else:
            done = [responses_request.executed_item(e) for e in self._call.transcript.executions]
            raw.output = [*done, *raw.output]
        if self._call.holds_text and not answered:
            raw.output = [i for i in raw.output if i.type != "message"]  # or the SDK would parse it
        raw.usage = responses_request.add_usage(end.usage)
        if not answered and not (end.stop_reason == "refused" and raw.status == "completed"):
            raw.status = "incomplete"
            raw.incomplete_details = responses_request.incomplete(end.stop_reason)

    def _items(self) -> list[Any]:
        """Return the calls of all rounds, and what else the last one has. What else an earlier one had stands
        in the field `agentd` of its first call, so that it goes back with it."""
        items: list[Any] = []
        executions = {e.id: e for e in self._call.transcript.executions}
        for raw, natives in self._rounds[:-1]:
            ours = {n.call.id for n in natives}
            before = [i for i in raw.output if not _is(i, ours)]
            for native in natives:
                items.append(self._item(native, executions, before))
                before = []
        raw, natives = self._rounds[-1]
        by_id = {n.call.id: n for n in natives}
        for item in raw.output:
            native_or_none = by_id.get(item.call_id) if _is(item, set(by_id)) else None
            items.append(item if native_or_none is None else self._item(native_or_none, executions, ()))
        return items

    def _item(self, native: _Native, executions: dict[str, Execution], before: Any) -> Any:
        offers = self._call.offers
        if offers.is_bash(native.call.name):
            extra = marker(native.call, native.answer, turn=native.turn, before=before)
            return responses_request.executed_item(executions[native.id], extra)
        return mcp_item(
            native.call,
            offers,
            status=native.status,
            turn=native.turn,
            output=native.answer,
            results=self._call.wants_results(),
            before=before,
        )


def _is(item: Any, ids: set[str]) -> bool:
    return item.type in CALLS and item.call_id in ids


def _name(call: Any) -> str:
    inner = getattr(call, "function", None) or getattr(call, "custom", None)
    return getattr(inner, "name", None) or ""

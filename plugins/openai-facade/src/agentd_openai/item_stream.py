"""The items of a streamed response that is made of several rounds: their numbers, and those of our blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from agentd.events import CodeExecution, CodeStart, as_dict
from agentd.turn.observer import SinkGroup

from agentd_openai.collector import Collector
from agentd_openai.responses_request import code_item

__all__ = ["ADDED", "DONE", "TEXT", "ItemStream"]

TEXT = "response.output_text.delta"
ADDED = "response.output_item.added"
DONE = "response.output_item.done"
CODE = "response.code_interpreter_call"


class ItemStream(Collector):
    """Numbers items and events, and sends them. `out` takes the events."""

    def __init__(self, sinks: SinkGroup, out: Callable[[Any], None]) -> None:
        super().__init__(sinks)
        from openai.types import responses

        self._types = responses
        self._out = out
        self._sequence = 0
        self.items: list[Any] = []  # by our index; None while an item is open
        self.code: dict[str, tuple[int, CodeStart]] = {}  # blocks that run, by the id of their events
        self.riders: list[dict[str, Any]] = []  # what the next event carries in its field `agentd`

    # --- our code items ---------------------------------------------------------------------------------

    def begin_code(self, start: CodeStart) -> None:
        """Send the beginning of a block."""
        index = self.new_index()
        self.code[start.id] = (index, start)
        place = {"output_index": index}
        item = code_item(id=start.id, code="", header=f"{start.target}:{start.action}", status="in_progress")
        self.make("ResponseOutputItemAddedEvent", ADDED, item=item, agentd=[as_dict(start)], **place)
        place["item_id"] = item.id
        self.make("ResponseCodeInterpreterCallInProgressEvent", f"{CODE}.in_progress", **place)
        self.make(
            "ResponseCodeInterpreterCallCodeDeltaEvent", f"{CODE}_code.delta", delta=start.code, **place
        )
        self.make("ResponseCodeInterpreterCallCodeDoneEvent", f"{CODE}_code.done", code=start.code, **place)
        self.make("ResponseCodeInterpreterCallInterpretingEvent", f"{CODE}.interpreting", agentd=[], **place)

    def interpreting(self, id: str, event: dict[str, Any]) -> None:
        """Send something that happens while a block runs."""
        index, _ = self.code[id]
        self.make(
            "ResponseCodeInterpreterCallInterpretingEvent",
            f"{CODE}.interpreting",
            item_id=f"ci_{id}",
            output_index=index,
            agentd=[event],
        )

    def end_code(self, done: CodeExecution, native: Mapping[str, Any] | None = None) -> None:
        """Send the end of a block; `native` is the marker of a call of `bash`."""
        if done.id not in self.code:  # it was never started: show the code all the same
            self.begin_code(CodeStart(id=done.id, code=done.code, action=done.action, target=done.target))
        index, start = self.code.pop(done.id)
        item = code_item(
            id=done.id,
            code=done.code,
            header=f"{start.target}:{start.action}",
            status=done.status,
            output=done.output,
            exit_code=done.exit_code,
            native=native,
        )
        self.make(
            "ResponseCodeInterpreterCallCompletedEvent",
            f"{CODE}.completed",
            item_id=item.id,
            output_index=index,
        )
        self.items[index] = item
        self.make("ResponseOutputItemDoneEvent", DONE, item=item, output_index=index, agentd=[as_dict(done)])

    # --- sending --------------------------------------------------------------------------------------------

    def new_index(self) -> int:
        """Return the number of a new item."""
        self.items.append(None)
        return len(self.items) - 1

    def make(self, name: str, kind: str, **fields: Any) -> None:
        """Send a new event: its class, its `type`, and its fields."""
        cls = getattr(self._types, name)
        self.send(cls.construct(type=kind, sequence_number=0, **fields))

    def send(self, event: Any) -> None:
        """Send an event with the next sequence number."""
        if self.riders:
            extra = getattr(event, "agentd", None)
            if extra is None:
                extra = [{"type": "text_delta", "text": event.delta}] if event.type == TEXT else []
            event.agentd = [*self.riders, *extra]
            self.riders = []
        event.sequence_number = self._sequence
        self._sequence += 1
        self._out(event)

"""Responses made of a model's events: the SDK's own events and responses, for providers without the SDK."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import uuid4

import attrs
from agentd.protocols import ModelEvent, ModelFinish, ModelText, ModelToolCall
from agentd.turn.reading import end_of

from agentd_openai.item_stream import ADDED, DONE, TEXT
from agentd_openai.responses_request import add_usage

__all__ = ["ResponsesWire"]

PART = "response.content_part"
ARGUMENTS = "response.function_call_arguments"
REASONING = "response.reasoning_text"


class ResponsesWire:
    """Makes the objects of one answer. Each method returns the events with their objects, in order."""

    def __init__(self, model: str) -> None:
        from openai.types import responses

        self._types = responses
        self._model = model
        self._id = f"resp_{uuid4().hex}"
        self._created = time.time()
        self._items: list[Any] = []
        self._open = ""  # the id of the message that is being written
        self._text = ""  # what of it has been written
        self._thinking = ""  # the id of the reasoning that is being written, and
        self._thought = ""  # what of it has been

    def begin(self) -> Iterator[ModelEvent]:
        """The answer has begun."""
        for name, kind in (("ResponseCreatedEvent", "created"), ("ResponseInProgressEvent", "in_progress")):
            yield self._event(name, f"response.{kind}", response=self._response("in_progress"))

    def text(self, text: str) -> Iterator[ModelEvent]:
        """A piece of text: of the message that is open, or of a new one."""
        if not self._open:
            yield from self._close()
            self._open, self._text = f"msg_{uuid4().hex}", ""
            begun = self._message(self._open, None)
            yield self._event(
                "ResponseOutputItemAddedEvent", ADDED, item=begun, output_index=len(self._items)
            )
            yield self._event(
                "ResponseContentPartAddedEvent", f"{PART}.added", part=self._part(""), **self._place()
            )
        self._text += text
        event = self._types.ResponseTextDeltaEvent.construct(
            type=TEXT, sequence_number=0, delta=text, logprobs=[], **self._place()
        )
        yield ModelText(text, event)

    def reasoning(self, text: str) -> Iterator[ModelEvent]:
        """A piece of what the model thinks: of the item that is open, or of a new one."""
        if not self._thinking:
            yield from self._close()
            self._thinking, self._thought = f"rs_{uuid4().hex}", ""
            begun = self._reasoning(self._thinking)
            yield self._event(
                "ResponseOutputItemAddedEvent", ADDED, item=begun, output_index=len(self._items)
            )
        self._thought += text
        place: dict[str, Any] = {"item_id": self._thinking, "output_index": len(self._items)}
        event = self._types.ResponseReasoningTextDeltaEvent.construct(
            type=f"{REASONING}.delta", sequence_number=0, delta=text, content_index=0, **place
        )
        yield ModelText("", event, text)

    def call(self, call: ModelToolCall) -> Iterator[ModelEvent]:
        """A native call, whole."""
        yield from self._close()
        item = self._call(call, "completed")
        place = {"output_index": len(self._items)}
        begun = item.model_copy(update={"arguments": "", "status": "in_progress"})
        yield self._event("ResponseOutputItemAddedEvent", ADDED, item=begun, **place)
        piece = {"item_id": item.id, **place}
        yield self._event(
            "ResponseFunctionCallArgumentsDeltaEvent", f"{ARGUMENTS}.delta", delta=call.arguments, **piece
        )
        yield self._event(
            "ResponseFunctionCallArgumentsDoneEvent",
            f"{ARGUMENTS}.done",
            arguments=call.arguments,
            name=call.name,
            **piece,
        )
        yield self._event("ResponseOutputItemDoneEvent", DONE, item=item, **place)
        self._items.append(item)
        yield attrs.evolve(call, raw=item)

    def finish(self, finish: ModelFinish) -> Iterator[ModelEvent]:
        """The answer has ended."""
        yield from self._close()
        reason, status = _end(finish)
        name = "ResponseCompletedEvent" if status == "completed" else "ResponseIncompleteEvent"
        response = self._response(status, finish, reason)
        event = getattr(self._types, name).construct(
            type=f"response.{status}", sequence_number=0, response=response
        )
        yield attrs.evolve(finish, raw=event)

    def whole(
        self, text: str, calls: Sequence[ModelToolCall], finish: ModelFinish, reasoning: str = ""
    ) -> Iterator[ModelEvent]:
        """The answer in one piece. The end comes first, as of a `ResponsesModel`."""
        if reasoning:
            self._items.append(self._reasoning(f"rs_{uuid4().hex}", reasoning))
        if text or not calls:
            self._items.append(self._message(f"msg_{uuid4().hex}", text))
        made = [(call, self._call(call, "completed")) for call in calls]
        self._items += [item for _, item in made]
        reason, status = _end(finish)
        response = self._response(status, finish, reason)
        yield attrs.evolve(finish, raw=response)
        yield ModelText(text, response, reasoning)
        for call, item in made:
            yield attrs.evolve(call, raw=item)

    # --- the objects ---------------------------------------------------------------------------------

    def _close(self) -> Iterator[ModelEvent]:
        """End what is being written, if there is something."""
        if self._thinking:
            yield from self._close_reasoning()
        if not self._open:
            return
        place, text = self._place(), self._text
        yield self._event(
            "ResponseTextDoneEvent", "response.output_text.done", text=text, logprobs=[], **place
        )
        yield self._event("ResponseContentPartDoneEvent", f"{PART}.done", part=self._part(text), **place)
        item = self._message(self._open, text)
        yield self._event("ResponseOutputItemDoneEvent", DONE, item=item, output_index=len(self._items))
        self._items.append(item)
        self._open = ""

    def _close_reasoning(self) -> Iterator[ModelEvent]:
        place = {"item_id": self._thinking, "output_index": len(self._items), "content_index": 0}
        text = self._thought
        yield self._event("ResponseReasoningTextDoneEvent", f"{REASONING}.done", text=text, **place)
        item = self._reasoning(self._thinking, text)
        yield self._event("ResponseOutputItemDoneEvent", DONE, item=item, output_index=len(self._items))
        self._items.append(item)
        self._thinking = ""

    def _place(self) -> dict[str, Any]:
        return {"item_id": self._open, "output_index": len(self._items), "content_index": 0}

    def _event(self, cls: str, kind: str, /, **fields: Any) -> ModelText:
        return ModelText("", getattr(self._types, cls).construct(type=kind, sequence_number=0, **fields))

    def _part(self, text: str) -> Any:
        return self._types.ResponseOutputText(type="output_text", text=text, annotations=[], logprobs=[])

    def _message(self, id: str, text: str | None) -> Any:
        """Return the message; `None` is the text of one that has just begun."""
        return self._types.ResponseOutputMessage(
            id=id,
            type="message",
            role="assistant",
            status="in_progress" if text is None else "completed",
            content=[] if text is None else [self._part(text)],
        )

    def _reasoning(self, id: str, text: str = "") -> Any:
        content = [{"type": "reasoning_text", "text": text}] if text else []
        data = {"id": id, "type": "reasoning", "summary": [], "content": content}
        return self._types.ResponseReasoningItem.model_validate(data)

    def _call(self, call: ModelToolCall, status: Any) -> Any:
        return self._types.ResponseFunctionToolCall(
            id=f"fc_{uuid4().hex}",
            type="function_call",
            call_id=call.id,
            name=call.name,
            arguments=call.arguments,
            status=status,
        )

    def _response(self, status: str, finish: ModelFinish | None = None, reason: str = "") -> Any:
        return self._types.Response.construct(
            id=self._id,
            object="response",
            created_at=self._created,
            model=self._model,
            status=status,
            output=list(self._items),
            usage=None if finish is None else add_usage(finish.usage),
            incomplete_details={"reason": reason} if status == "incomplete" else None,
            parallel_tool_calls=True,
            tool_choice="auto",
            tools=[],
        )


def _end(finish: ModelFinish) -> tuple[str, str]:
    """Return the reason and the status of the end as the responses API names them."""
    end = end_of(finish.reason)
    if end in ("answer", "paused"):
        return "stop", "completed"
    return ("content_filter" if end == "refused" else "max_output_tokens"), "incomplete"

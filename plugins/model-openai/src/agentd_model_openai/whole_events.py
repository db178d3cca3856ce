"""The events of a streamed response, made whole: servers that speak the responses API leave parts of them out.

llama.cpp sends no indices; others begin with the text, or send an item only when it is complete or only in the last
event. What comes out of here is a stream as OpenAI's own API documents it (reference, "Responses", "Streaming events"):
each item is begun, its parts are begun and ended, it is ended, and the last event has all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final
from uuid import uuid4

import attrs

from agentd_model_openai.chat_calls import MOST_CHARS

__all__ = ["MOST_ITEMS", "WholeEvents"]

MOST_ITEMS: Final = 10_000
"""How many items of one answer are kept: each takes some kilobytes of memory, however short it is."""

ADDED: Final = "response.output_item.added"
DONE: Final = "response.output_item.done"
PART: Final = "response.content_part"
TEXT: Final = "response.output_text"
BEGINNINGS: Final = ("response.created", "response.queued", "response.in_progress")
_KINDS: Final = {
    "response.output_text.": "message",
    "response.content_part.": "message",
    "response.refusal.": "message",
    "response.reasoning": "reasoning",
    "response.function_call_arguments.": "function_call",
}
_RESPONSE: Final[dict[str, Any]] = {
    "object": "response",
    "created_at": 0.0,
    "output": [],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
}
"""What a response must have, with what stands there if a server leaves it out."""


@attrs.define(eq=False)
class _BegunItem:
    """An item: its number, and for a message the texts of its parts and which of these are open."""

    index: int
    item: Any
    texts: dict[int, str] = attrs.field(factory=dict)
    open_parts: set[int] = attrs.field(factory=set)
    done: bool = False


class WholeEvents:
    """Takes the events of one answer. `feed` returns each with what had to come before it.

    :param model: the model's name.
    :raises ValueError: if there are more than `MOST_ITEMS`, or more than `MOST_CHARS` in those that are no text.
    """

    def __init__(self, model: str) -> None:
        from openai.types import responses

        self._types = responses
        self._model = model
        self._items: dict[int, _BegunItem] = {}
        self._chars = 0
        self._begun = False

    def feed(self, event: Any) -> Iterator[Any]:
        """Take an event."""
        kind = event.type
        if not kind.startswith("response."):
            yield event
            return
        if hasattr(event, "response"):
            self._complete(event)
        if not self._begun and kind != "response.created":
            yield self._created(getattr(event, "response", None))
        self._begun = True
        if kind == ADDED:
            yield from self._added(event)
        elif kind == DONE:
            yield from self._done(event)
        elif kind in ("response.completed", "response.incomplete"):
            yield from self._finished(event.response)
            yield event
        elif kind not in BEGINNINGS and (
            of := next((v for k, v in _KINDS.items() if kind.startswith(k)), "")
        ):
            yield from self._within(event, of)
        else:
            yield event

    # --- the response --------------------------------------------------------------------------------------

    def _complete(self, event: Any) -> None:
        response = event.response
        missing = {name: value for name, value in _RESPONSE.items() if getattr(response, name, None) is None}
        for name in ("id", "model"):
            if not getattr(response, name, None):
                missing[name] = self._model if name == "model" else f"resp_{uuid4().hex}"
        if missing:
            missing |= {"output": []} if "output" in missing else {}  # one of its own
            event.response = response.model_copy(update=missing)

    def _created(self, response: Any) -> Any:
        if response is None:
            response = self._types.Response.construct(
                **_RESPONSE, id=f"resp_{uuid4().hex}", model=self._model
            )
        begun = response.model_copy(update={"status": "in_progress", "output": [], "usage": None})
        return self._made("ResponseCreatedEvent", "response.created", response=begun)

    def _finished(self, response: Any) -> Iterator[Any]:
        """End what is open, and see to it that the response and what was sent have the same items."""
        left = dict(self._items)
        for item in response.output:
            entry = self._known(item)
            if entry is None or entry.index not in left:  # an id of its own: then it is by its place
                entry = next((e for e in left.values() if e.item.type == item.type), None)
            if entry is None:
                yield from self._done(self._made("ResponseOutputItemDoneEvent", DONE, item=item))
            elif not left.pop(entry.index).done:
                yield from self._end(entry, item)
        for entry in left.values():
            if not entry.done:
                yield from self._end(entry, entry.item)
        response.output = [self._items[index].item for index in sorted(self._items)]

    # --- its items -------------------------------------------------------------------------------------------

    def _known(self, item: Any) -> _BegunItem | None:
        """Return the item as it was begun: by its id, or the only one of its type that can be meant."""
        same = [e for e in self._items.values() if e.item.type == item.type]
        for name in ("id", "call_id"):
            if (value := getattr(item, name, None)) is not None:
                for entry in same:
                    if getattr(entry.item, name, None) == value:
                        return entry
        open_ones = [e for e in same if not e.done]
        return open_ones[0] if len(open_ones) == 1 and item.type in ("message", "reasoning") else None

    def _added(self, event: Any) -> Iterator[Any]:
        if event.item is not None and self._index(event) not in self._items:
            self._begin(event)
            yield event

    def _begin(self, event: Any) -> _BegunItem:
        """Note an item that begins. (A reader may change the event: nothing is read of it later.)"""
        if len(self._items) >= MOST_ITEMS:
            raise ValueError(f"an answer has more than {MOST_ITEMS:,} items")
        item, index = event.item, self._index(event)
        if item.type == "message":
            item.id = getattr(item, "id", None) or f"msg_{uuid4().hex}"
            item.content = getattr(item, "content", None) or []
        self._items[index] = entry = _BegunItem(index, item)
        return entry

    def _done(self, event: Any) -> Iterator[Any]:
        item = event.item
        index = getattr(event, "output_index", None)
        entry = self._items.get(index) if index is not None else self._known(item)
        if entry is None:
            changes: dict[str, Any] = {"content": []} if item.type == "message" else {}
            if hasattr(item, "status"):
                changes["status"] = "in_progress"
            begun = self._made("ResponseOutputItemAddedEvent", ADDED, item=item.model_copy(update=changes))
            if index is not None:
                begun.output_index = index
            entry = self._begin(begun)
            yield begun
        if not entry.done:
            yield from self._end(entry, item)

    def _end(self, entry: _BegunItem, item: Any) -> Iterator[Any]:
        """End an item: the text that it has and nobody has sent, its parts, itself."""
        self._chars += len(str(item)) if item.type != "message" else 0
        if self._chars > MOST_CHARS:
            raise ValueError(f"an answer has more than {MOST_CHARS:,} characters of calls and reasoning")
        if item.type == "message":
            for number, part in enumerate(getattr(item, "content", None) or ()):
                text = getattr(part, "text", None) or ""
                sent = entry.texts.get(number, "")
                if (
                    part.type == "output_text"
                    and number not in entry.texts
                    and text.startswith(sent)
                    and text != sent
                ):
                    yield from self._text(entry, number, text[len(sent) :])
            for number in sorted(entry.open_parts):
                yield from self._end_part(entry, number)
            if getattr(item, "id", None) != entry.item.id or not getattr(item, "content", None):
                parts = [self._part(text) for _, text in sorted(entry.texts.items())]
                kept = list(getattr(item, "content", None) or ()) or parts
                item = item.model_copy(update={"id": entry.item.id, "content": kept, "status": "completed"})
        entry.item, entry.done = item, True
        yield self._made("ResponseOutputItemDoneEvent", DONE, item=item, output_index=entry.index)

    # --- what belongs to an item --------------------------------------------------------------------------------

    def _within(self, event: Any, of: str) -> Iterator[Any]:
        entry = self._entry(event, of)
        if entry is None:
            if of != "message":
                return  # its item comes complete
            item = self._message(getattr(event, "item_id", None))
            begun = self._made("ResponseOutputItemAddedEvent", ADDED, item=item)
            entry = self._begin(begun)
            yield begun
        event.output_index, event.item_id = entry.index, getattr(entry.item, "id", None) or event.item_id
        if of != "message":
            yield event
            return
        number = event.content_index = _number(event, "content_index") or 0
        if event.type == f"{PART}.added":
            if number not in entry.open_parts:
                entry.open_parts.add(number)
                yield event
            return
        if event.type in (f"{TEXT}.delta", "response.refusal.delta") and number not in entry.open_parts:
            yield self._begin_part(entry, number)
        if event.type == f"{TEXT}.delta":
            entry.texts[number] = entry.texts.get(number, "") + (
                event.delta if isinstance(event.delta, str) else ""
            )
            event.logprobs = getattr(event, "logprobs", None) or []
        elif event.type == f"{TEXT}.done":
            if number not in entry.texts and event.text:
                yield from self._text(entry, number, event.text)
            event.logprobs = getattr(event, "logprobs", None) or []
        elif event.type == f"{PART}.done":
            if number not in entry.open_parts:
                return
            entry.open_parts.discard(number)
        yield event

    def _entry(self, event: Any, of: str) -> _BegunItem | None:
        index, id = _number(event, "output_index"), getattr(event, "item_id", None)
        if index is not None:
            return self._items.get(index)
        of_type = [e for e in self._items.values() if e.item.type == of]
        named = [e for e in of_type if id is not None and getattr(e.item, "id", None) == id]
        found = named or [e for e in of_type if not e.done]
        return found[-1] if found else None

    def _index(self, event: Any) -> int:
        """Return the number of an item that begins."""
        index = _number(event, "output_index")
        if index is None:
            index = event.output_index = max(self._items, default=-1) + 1
        return index

    def _text(self, entry: _BegunItem, number: int, text: str) -> Iterator[Any]:
        if number not in entry.open_parts:
            yield self._begin_part(entry, number)
        entry.texts[number] = entry.texts.get(number, "") + text
        yield self._made(
            "ResponseTextDeltaEvent", f"{TEXT}.delta", delta=text, logprobs=[], **self._place(entry, number)
        )

    def _begin_part(self, entry: _BegunItem, number: int) -> Any:
        entry.open_parts.add(number)
        place = self._place(entry, number)
        return self._made("ResponseContentPartAddedEvent", f"{PART}.added", part=self._part(""), **place)

    def _end_part(self, entry: _BegunItem, number: int) -> Iterator[Any]:
        entry.open_parts.discard(number)
        text, place = entry.texts.get(number, ""), self._place(entry, number)
        yield self._made("ResponseTextDoneEvent", f"{TEXT}.done", text=text, logprobs=[], **place)
        yield self._made("ResponseContentPartDoneEvent", f"{PART}.done", part=self._part(text), **place)

    def _place(self, entry: _BegunItem, number: int) -> dict[str, Any]:
        return {"item_id": entry.item.id, "output_index": entry.index, "content_index": number}

    def _part(self, text: str) -> Any:
        return self._types.ResponseOutputText(type="output_text", text=text, annotations=[], logprobs=[])

    def _message(self, id: str | None) -> Any:
        return self._types.ResponseOutputMessage(
            id=id or f"msg_{uuid4().hex}", type="message", role="assistant", status="in_progress", content=[]
        )

    def _made(self, cls: str, kind: str, /, **fields: Any) -> Any:
        return getattr(self._types, cls).construct(type=kind, sequence_number=0, **fields)


def _number(event: Any, name: str) -> int | None:
    value = getattr(event, name, None)
    return value if isinstance(value, int) else None

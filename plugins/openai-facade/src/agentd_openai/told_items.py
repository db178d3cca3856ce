"""A caller's conversation as a history reads it: messages and items, each with the form in which the API has it.

Nothing of that form is lost: what stays is sent as the caller gave it, pictures and reasoning included; only an old
result that is shortened is written anew.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import attrs
from agentd.turn.transcript import Message, NativeCall

__all__ = ["CallerMessage", "items_of", "messages_of", "result_text", "with_text"]

_RESULTS: Final = re.compile(r"\[result 1 of \d+: ")  # as `format_results` begins, in what comes back
_OUTPUTS: Final = ("content", "output")


@attrs.frozen(kw_only=True)
class CallerMessage(Message):
    """A message, and the items of the API that it stands for. `number` is its place among all of them."""

    role: Any
    content: str
    raw: tuple[Any, ...] = attrs.field(default=(), eq=False)
    number: int = 0


def messages_of(
    items: Iterable[Any], first: int | None = None
) -> tuple[list[CallerMessage], list[tuple[int, Any]]]:
    """Return messages of chat completions, or items of the responses API, as a history reads them; and apart, those
    that are never forgotten, each with the number of the message in front of which it stands: system messages, and
    what stands before the caller's first own message, as the provider may insist on outputs there.

    :param first: the number of the first message, for what is added to a conversation.
    """
    begin = first or 0
    found: list[CallerMessage] = []
    pinned: list[tuple[int, Any]] = []
    for item in items:
        message = _message(_plain(item), item, begin + len(found))
        if message is None or (first is None and not found and message.role != "task"):
            pinned.append((begin + len(found), item))
        elif found and message.role == "results" == found[-1].role and message.calls and found[-1].calls:
            last = found[-1]  # results of one turn
            calls, raw = last.calls + message.calls, last.raw + message.raw
            found[-1] = attrs.evolve(last, calls=calls, raw=raw)
        else:
            found.append(message)
    return found, pinned


def items_of(message: Message) -> Sequence[Any]:
    """Return the items of a message that a history has left, which may be one that it has written."""
    if not isinstance(message, CallerMessage):
        return [{"role": "assistant" if message.role == "answer" else "user", "content": message.content}]
    if message.role != "results":
        return message.raw
    if message.calls:
        return [with_text(item, call.output) for item, call in zip(message.raw, message.calls, strict=True)]
    return [with_text(item, message.content) for item in message.raw]


def with_text(item: Any, text: str) -> Any:
    """Return an item with this text, the same one if it has it."""
    plain = _plain(item)
    place = next(name for name in _OUTPUTS if name in plain)
    return item if _text(plain[place]) == text else {**plain, place: text}


def result_text(item: Any) -> tuple[str | None, bool]:
    """Return the text of an item if it is a result, else None; and whether it is one of a native call. Only a result
    that is text, as agentd writes it, counts."""
    plain = _plain(item)
    is_of_call = _is_of_call(plain)
    content = plain.get(next((name for name in _OUTPUTS if name in plain), ""))
    if not isinstance(content, str):
        return None, is_of_call
    is_of_blocks = plain.get("role") == "user" and _RESULTS.match(content) is not None
    return (content if is_of_call or is_of_blocks else None), is_of_call


def _is_of_call(plain: Mapping[str, Any]) -> bool:
    return plain.get("role") in ("tool", "function") or str(plain.get("type")).endswith("_output")


def _message(plain: Mapping[str, Any], item: Any, number: int) -> CallerMessage | None:
    role, kind = plain.get("role"), str(plain.get("type") or "message")
    if role in ("system", "developer"):
        return None
    made: dict[str, Any] = {"raw": (item,), "number": number}
    if _is_of_call(plain):
        id = str(plain.get("tool_call_id") or plain.get("call_id") or "")
        place = next((name for name in _OUTPUTS if name in plain), "")
        call = NativeCall(id=id, name=str(plain.get("name") or ""), output=_text(plain.get(place)))
        return CallerMessage(role="results", content="", calls=(call,), **made)
    if role == "user":
        text = _text(plain.get("content"))
        return CallerMessage(role="results" if _RESULTS.match(text) else "task", content=text, **made)
    if role == "assistant" and kind == "message":
        calls = tuple(_call(_plain(c)) for c in plain.get("tool_calls") or ())
        return CallerMessage(role="answer", content=_text(plain.get("content")), calls=calls, **made)
    # A call, what a model has thought, or a tool of the provider's: part of an answer.
    return CallerMessage(role="answer", content=json.dumps(plain, default=str), **made)


def _call(call: Mapping[str, Any]) -> NativeCall:
    inner = _plain(call.get("function") or call.get("custom") or {})
    arguments = inner.get("arguments") or inner.get("input") or ""
    return NativeCall(
        id=str(call.get("id") or ""), name=str(inner.get("name") or ""), arguments=str(arguments)
    )


def _text(content: Any) -> str:
    """Return the text of a content; a picture or a file counts as its label."""
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, Iterable):
        return str(content)
    parts = [part if isinstance(part, str) else _plain(part) for part in content]
    return "\n".join(
        p if isinstance(p, str) else str(p.get("text") or p.get("refusal") or f"[{p.get('type')}]")
        for p in parts
    )


def _plain(thing: Any) -> Mapping[str, Any]:
    return thing if isinstance(thing, Mapping) else getattr(thing, "to_dict", dict)()

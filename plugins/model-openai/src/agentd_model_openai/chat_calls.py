"""Native tool calls in chat completions: from the SDK's objects to `ModelToolCall`, and back into messages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final, TypeGuard

from agentd.protocols import ModelToolCall, ToolOffer
from agentd.text import valid_data

from agentd_model_openai.reasoning import fields_of
from agentd_model_openai.tool_schema import with_items

__all__ = ["MOST_CHARS", "CallCollector", "as_call", "as_tool", "later_choice", "text_of"]

MOST_CHARS: Final = 16 * 1024 * 1024
"""How much of one answer is kept besides its text: calls and reasoning. (The text is bounded by `Budgets`.)"""

_EXTRAS: Final = ("refusal", "reasoning", "reasoning_content", "reasoning_details", "thinking_blocks")
"""Fields besides the text that an answer with calls takes back with it, each under the name that it came under: some
providers insist on their own reasoning (DeepSeek, vLLM, Ollama, OpenRouter, LiteLLM for Anthropic)."""


def as_tool(offer: ToolOffer) -> dict[str, Any]:
    """Return a tool as a request has it."""
    function: dict[str, Any] = {
        "name": offer.name,
        "description": offer.description,
        "parameters": with_items(offer.parameters),
    }
    if offer.strict:
        function["strict"] = True
    return {"type": "function", "function": function}


def as_call(call: ModelToolCall) -> dict[str, Any]:
    """Return a call as a message has it."""
    if isinstance(call.raw, dict) and ("function" in call.raw or "custom" in call.raw):
        return call.raw
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}


def later_choice(choice: Any) -> Any:
    """Return what becomes of a `tool_choice` after the first request: one that forces a call, `auto`."""
    if choice == "required":
        return "auto"
    if not isinstance(choice, dict):
        return choice
    if choice.get("type") != "allowed_tools":
        return "auto"
    inner = choice.get("allowed_tools")
    if isinstance(inner, dict):  # as chat completions have it
        return {**choice, "allowed_tools": {**inner, "mode": "auto"}}
    return {**choice, "mode": "auto"}


def text_of(content: Any) -> str:
    """Return the text of a message's content: a string, or a list of parts, of which some servers send several kinds
    (Mistral's thinking, say).

    :raises ValueError: for anything else.
    """
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        raise ValueError(f"the content is neither text nor a list of parts but {str(content)[:80]!r}")
    parts = [part if isinstance(part, dict) else {"type": "text", "text": part} for part in content]
    return "".join(str(p.get("text") or "") for p in parts if p.get("type", "text") == "text")


class CallCollector:
    """Puts the pieces of one answer's calls together, and keeps what else must go back with them."""

    def __init__(self) -> None:
        self.extras: dict[str, Any] = {}
        self._open: dict[int, dict[str, Any]] = {}
        self._unnumbered = 0
        self._closed = 0  # how many were complete already
        self._chars = 0

    def whole(self, message: Any) -> Iterator[ModelToolCall]:
        """Read a whole message."""
        self.extras |= fields_of(message, _EXTRAS)
        for number, call in enumerate(getattr(message, "tool_calls", None) or ()):
            yield _finished(_plain(call), number)

    def feed(self, delta: Any) -> list[ModelToolCall]:
        """Take a delta; return the calls that are complete because another one has begun.

        :raises ValueError: if it becomes more than `MOST_CHARS`.
        """
        for name, value in fields_of(delta, _EXTRAS).items():
            self._count(value)
            _merge(self.extras, name, value)
        if not delta.tool_calls:
            return []
        done: list[ModelToolCall] = []
        for piece in delta.tool_calls:
            data = _plain(piece)
            index = data.pop("index", None)
            if index is None:  # a server that sends each call in one piece
                self._unnumbered -= 1
                index = self._unnumbered
            if index not in self._open or _is_another(self._open[index], data):
                done += self.close()
                self._open[index] = {}
            self._count(data)
            _join(self._open[index], data)
        return done

    def _count(self, data: Any) -> None:
        self._chars += len(data if isinstance(data, str) else str(data))
        if self._chars > MOST_CHARS:
            raise ValueError(f"an answer has more than {MOST_CHARS:,} characters of calls and reasoning")

    def close(self) -> list[ModelToolCall]:
        """Return the calls that are left, at the answer's end."""
        left, self._open = self._open, {}
        done = [_finished(call, number) for number, call in enumerate(left.values(), self._closed)]
        self._closed += len(done)
        return done


def _plain(piece: Any) -> dict[str, Any]:
    function: Any = getattr(piece, "function", None)
    is_usual = type(piece).__name__ == "ChatCompletionMessageFunctionToolCall" and function is not None
    if is_usual and not piece.model_extra and not function.model_extra:  # ten times as fast
        inner = {"name": function.name, "arguments": function.arguments}
        return {"id": piece.id, "type": "function", "function": inner}
    data: dict[str, Any] = piece if isinstance(piece, dict) else piece.to_dict()
    return {k: v for k, v in data.items() if v is not None}


def _finished(data: dict[str, Any], number: int) -> ModelToolCall:
    data = valid_data(data)
    data |= {"id": data.get("id") or f"call_{number}", "type": data.get("type") or "function"}
    if data["type"] == "custom":
        custom = data.get("custom") or {}
        return ModelToolCall(
            id=data["id"], name=custom.get("name") or "", arguments=custom.get("input") or "", raw=data
        )
    function = data.get("function") or {}
    data["function"] = {**function, "arguments": function.get("arguments") or ""}
    return ModelToolCall(
        id=data["id"], name=function.get("name") or "", arguments=data["function"]["arguments"], raw=data
    )


def _is_another(call: dict[str, Any], piece: dict[str, Any]) -> bool:
    """Tell whether a piece begins a call although its number was there: Gemini's endpoint calls them all 0.

    It has another id; or a name and arguments, and those of the call are whole already.
    """
    if "id" in piece and piece["id"] != call.get("id", piece["id"]):
        return "function" in piece
    function, begun = piece.get("function"), call.get("function")
    if not (isinstance(function, dict) and isinstance(begun, dict) and function.get("name")):
        return False
    more, arguments = function.get("arguments"), begun.get("arguments")
    if not (isinstance(more, str) and isinstance(arguments, str) and more.lstrip()[:1] == "{"):
        return False
    # A server that names the call in each piece would have it read again each time.
    if len(arguments) > 65_536:
        return False
    try:
        return isinstance(json.loads(arguments), dict)
    except (ValueError, RecursionError):
        return False


def _join(call: dict[str, Any], piece: dict[str, Any]) -> None:
    """Add a piece of a call: its arguments are appended, all else is as it came first."""
    for key, value in piece.items():
        if key in ("function", "custom") and isinstance(value, dict):
            inner = call.setdefault(key, {})
            for name, text in value.items():
                if name in ("arguments", "input"):
                    inner[name] = (inner.get(name) or "") + (text or "")
                elif text:
                    inner.setdefault(name, text)
        elif value or key not in call:
            call.setdefault(key, value)


def _merge(extras: dict[str, Any], name: str, value: Any) -> None:
    before = extras.get(name)
    if isinstance(before, str) and isinstance(value, str):
        extras[name] = before + value
    elif name == "thinking_blocks" and isinstance(value, list):
        extras[name] = _joined_blocks([*(before or ()), *value])
    elif isinstance(before, list) and isinstance(value, list):
        extras[name] = [*before, *value]
    else:
        extras[name] = value


def _joined_blocks(pieces: list[Any]) -> list[Any]:
    """Put the pieces of Anthropic's thinking together: the signature comes last, and is for all of a block's text."""
    blocks: list[Any] = []
    for piece in pieces:
        last = blocks[-1] if blocks else None
        if _is_thought(last) and _is_thought(piece) and not last.get("signature"):
            text = (last.get("thinking") or "") + (piece.get("thinking") or "")
            blocks[-1] = {**last, **piece, "thinking": text}
        else:
            blocks.append(piece)
    return blocks


def _is_thought(block: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(block, dict) and block.get("type") == "thinking"

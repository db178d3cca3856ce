"""What a request costs: its bytes, its tokens, and how many of these a provider's prompt cache has seen before.

Tokens are those of `o200k_base` (bpe-openai, whose package carries the vocabulary): of the tools as compact JSON,
and of each message's role, content and calls, with three for what separates messages. So a call's own JSON is
counted as text.

Cached are the tokens of the longest beginning that a request shares with the request before it, in the order in
which providers cache: tools, then messages. It is taken whole parts at a time and without a provider's minimum
(1,024 tokens, say).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

__all__ = ["Meter", "Spent", "as_typescript", "counter"]

PER_MESSAGE = 3


def counter() -> Callable[[str], int]:
    """Return what counts the tokens of a text."""
    from bpe_openai import get_encoding  # it is in the environment of `make evidence` alone

    encoding = get_encoding("o200k_base")
    return lambda text: len(encoding.encode_ordinary(text))


@attrs.define
class Spent:
    """What the requests of one replay have cost. Tokens `sent` are all of the input, `cached` some of them."""

    requests: int = 0
    bytes: int = 0
    sent: int = 0
    cached: int = 0
    written: int = 0
    tools: int = 0  # of `sent`: the tools as JSON Schema
    tools_ts: int = 0  # the same tools as OpenAI's models are said to see them


class Meter:
    """Adds up the requests of one conversation.

    :param count: how many tokens a text has.
    """

    def __init__(self, count: Callable[[str], int]) -> None:
        self.spent = Spent()
        self._count = count
        self._known: dict[str, int] = {}
        self._typescript: dict[str, int] = {}
        self._before: list[str] = []

    def request(self, body: Mapping[str, Any], size: int) -> None:
        """Take a request of chat completions that has `size` bytes."""
        tools = [json.dumps(tool, separators=(",", ":")) for tool in body.get("tools") or ()]
        messages = [_text(message) for message in body["messages"]]
        tool_tokens = sum(map(self._tokens, tools))
        parts = tools + messages
        spent = self.spent
        spent.requests += 1
        spent.bytes += size
        spent.sent += tool_tokens + sum(self._tokens(text) + PER_MESSAGE for text in messages)
        for number, (part, before) in enumerate(zip(parts, self._before, strict=False)):
            if part != before:
                break
            spent.cached += self._tokens(part) + PER_MESSAGE * (number >= len(tools))
        spent.tools += tool_tokens
        whole = "\n".join(tools)
        if whole not in self._typescript:
            self._typescript[whole] = self._count(as_typescript(body.get("tools") or ()))
        spent.tools_ts += self._typescript[whole]
        self._before = parts

    def answer(self, text: str) -> None:
        """Take what the model wrote."""
        self.spent.written += self._tokens(text)

    def _tokens(self, text: str) -> int:
        if text not in self._known:
            self._known[text] = self._count(text)
        return self._known[text]


def _text(message: Mapping[str, Any]) -> str:
    parts = [message["role"], message.get("content") or ""]
    parts += [
        f"{c['function']['name']} {c['function']['arguments']}" for c in message.get("tool_calls") or ()
    ]
    return "\n".join(parts)


def as_typescript(tools: Sequence[Mapping[str, Any]]) -> str:
    """Return tools as a TypeScript namespace, which is shorter: as OpenAI's open models see them ("harmony")."""
    if not tools:
        return ""
    lines = ["namespace functions {"]
    for tool in tools:
        function = tool["function"]
        lines += [f"// {line}" for line in function.get("description", "").splitlines()]
        schema = function.get("parameters") or {}
        if not schema.get("properties"):
            lines.append(f"type {function['name']} = () => any;")
            continue
        lines.append(f"type {function['name']} = (_: {{")
        lines += _fields(schema)
        lines.append("}) => any;")
    return "\n".join([*lines, "} // namespace functions"])


def _fields(schema: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, part in schema.get("properties", {}).items():
        if part.get("description"):
            lines.append(f"// {part['description']}")
        optional = "" if name in schema.get("required", ()) else "?"
        default = f" // default: {part['default']}" if "default" in part else ""
        lines.append(f"{name}{optional}: {_type(part)},{default}")
    return lines


def _type(part: Mapping[str, Any]) -> str:
    if "enum" in part:
        return " | ".join(json.dumps(value) for value in part["enum"])
    if "anyOf" in part:
        return " | ".join(map(_type, part["anyOf"]))
    kind = part.get("type", "any")
    if kind == "array":
        return f"{_type(part.get('items') or {})}[]"
    if kind == "object" and part.get("properties"):
        return "{\n" + "\n".join(_fields(part)) + "\n}"
    return {"integer": "number"}.get(kind, kind) if isinstance(kind, str) else " | ".join(kind)

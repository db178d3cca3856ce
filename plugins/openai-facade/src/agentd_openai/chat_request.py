"""Chat completions: what is sent for a call of the patched method, and what a whole answer becomes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from agentd.errors import ConfigError
from agentd.turn.reading import end_of
from agentd.types import Usage

__all__ = ["add_usage", "check", "finish_reason", "restored", "tool_names", "with_instructions"]


def check(kwargs: Mapping[str, Any], kind: str) -> None:
    """Raise `ConfigError` for what cannot work with running code (`ptc`) or tools (`tools`)."""
    if (kwargs.get("n") or 1) != 1:
        what, way_out = (
            ("runs code", "pass ptc_enabled=False for several plain answers")
            if kind == "ptc"
            else ("calls tools", "use an unpatched client for several plain answers")
        )
        raise ConfigError(f"n: must be 1 for a client that {what}, got {kwargs['n']!r}; {way_out}")


def tool_names(tools: Any) -> set[str]:
    """Return the names of the caller's own tools, of either API."""
    names = set()
    for tool in tools or ():
        plain = tool if isinstance(tool, Mapping) else getattr(tool, "to_dict", dict)()
        inner = plain.get("function") or plain.get("custom") or plain
        if isinstance(inner, Mapping) and isinstance(inner.get("name"), str):
            names.add(inner["name"])
    return names


def restored(messages: Iterable[Any]) -> list[Any]:
    """Return the messages as the provider knows them.

    A message that a run of ours ended with has the whole exchange in its field `agentd`: it is replaced by
    that. The caller's objects are not changed.
    """
    found: list[Any] = []
    for message in messages:
        is_dict = isinstance(message, Mapping)
        extra = message.get("agentd") if is_dict else getattr(message, "agentd", None)
        if extra is None:
            found.append(message)
        elif isinstance(extra, Mapping) and isinstance(extra.get("messages"), list):
            found += extra["messages"]
        else:
            plain = message if is_dict else message.to_dict()
            found.append({k: v for k, v in plain.items() if k != "agentd"})
    return found


def with_instructions(messages: Iterable[Any], text: str) -> list[Any]:
    """Return the messages with `text` at the end of the leading system (or developer) message.

    Without one, a system message is put in front. The caller's objects are not changed.
    """
    found = list(messages)
    first = found[0] if found else None
    plain = first if isinstance(first, Mapping) else getattr(first, "to_dict", dict)()
    if plain.get("role") not in ("system", "developer"):
        return [{"role": "system", "content": text}, *found]
    content = plain.get("content")
    if isinstance(content, str) or content is None:
        merged: Any = f"{content}\n\n{text}" if content else text
    else:
        merged = [*content, {"type": "text", "text": text}]
    return [{**plain, "content": merged}, *found[1:]]


_REASONS: Final = ("stop", "length", "tool_calls", "content_filter", "function_call")
"""The finish reasons that the SDK's types know."""


def finish_reason(word: str, end: str = "answer") -> str:
    """Return the finish reason that a caller sees.

    :param word: the provider's.
    :param end: the stop reason of the run.
    """
    if end in ("answer", "refused") and word in _REASONS:
        return word
    meant = end_of(word) if end == "answer" else end
    return {"answer": "stop", "refused": "content_filter"}.get(meant, "length")


def add_usage(usage: Usage) -> Any:
    """Return the sum over the rounds as the SDK's object."""
    from openai.types import CompletionUsage

    return CompletionUsage.model_validate(
        {
            "prompt_tokens": usage.input_tokens,
            "completion_tokens": usage.output_tokens,
            "total_tokens": usage.total_tokens,
            "prompt_tokens_details": {"cached_tokens": usage.cached_input_tokens},
            "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        }
    )

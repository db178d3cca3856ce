"""Chat completions: what is sent for a call of the patched method, and what a whole answer becomes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from agentd.errors import ConfigError
from agentd.types import Usage

__all__ = ["add_usage", "check", "with_instructions"]


def check(kwargs: Mapping[str, Any]) -> None:
    """Raise `ConfigError` for what cannot work with running code."""
    if (kwargs.get("n") or 1) != 1:
        raise ConfigError(
            f"n: must be 1 for a client that runs code, got {kwargs['n']!r}; "
            "pass ptc_enabled=False for several plain answers"
        )


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

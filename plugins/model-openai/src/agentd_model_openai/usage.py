"""Token counts and prices: from a provider's usage object to `Usage`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
from agentd.types import Usage

__all__ = ["Prices", "chat_usage", "responses_usage"]

Prices = Mapping[str, tuple[float, ...]]
"""US dollars per million tokens by model: `(input, output)` or `(input, output, cached input)`."""


def chat_usage(usage: Any) -> Usage:
    """Read the usage object of chat completions; None counts the request only."""
    if usage is None:
        return Usage(requests=1)
    return Usage(
        input_tokens=_count(getattr(usage, "prompt_tokens", None)),
        output_tokens=_count(getattr(usage, "completion_tokens", None)),
        cached_input_tokens=_detail(usage, "prompt_tokens_details", "cached_tokens"),
        reasoning_tokens=_detail(usage, "completion_tokens_details", "reasoning_tokens"),
        requests=1,
    )


def responses_usage(usage: Any) -> Usage:
    """Read the usage object of responses; None counts the request only."""
    if usage is None:
        return Usage(requests=1)
    return Usage(
        input_tokens=_count(getattr(usage, "input_tokens", None)),
        output_tokens=_count(getattr(usage, "output_tokens", None)),
        cached_input_tokens=_detail(usage, "input_tokens_details", "cached_tokens"),
        reasoning_tokens=_detail(usage, "output_tokens_details", "reasoning_tokens"),
        requests=1,
    )


def _detail(usage: Any, group: str, name: str) -> int:
    return _count(getattr(getattr(usage, group, None), name, None))


def _count(value: object) -> int:
    """Return a number of tokens; what is none counts nothing, for a budget adds these up."""
    return value if type(value) is int and value > 0 else 0


def priced(usage: Usage, model: str, prices: Prices | None) -> Usage:
    """Return the usage with its cost, if the model has a price."""
    price = (prices or {}).get(model)
    if price is None:
        return usage
    cached = usage.cached_input_tokens
    cached_price = price[2] if len(price) > 2 else price[0]
    cost = (usage.input_tokens - cached) * price[0] + cached * cached_price + usage.output_tokens * price[1]
    return attrs.evolve(usage, cost_usd=cost / 1e6)

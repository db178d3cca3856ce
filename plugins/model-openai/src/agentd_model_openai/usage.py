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
        input_tokens=usage.prompt_tokens or 0,
        output_tokens=usage.completion_tokens or 0,
        cached_input_tokens=_detail(usage, "prompt_tokens_details", "cached_tokens"),
        reasoning_tokens=_detail(usage, "completion_tokens_details", "reasoning_tokens"),
        requests=1,
    )


def responses_usage(usage: Any) -> Usage:
    """Read the usage object of responses; None counts the request only."""
    if usage is None:
        return Usage(requests=1)
    return Usage(
        input_tokens=usage.input_tokens or 0,
        output_tokens=usage.output_tokens or 0,
        cached_input_tokens=_detail(usage, "input_tokens_details", "cached_tokens"),
        reasoning_tokens=_detail(usage, "output_tokens_details", "reasoning_tokens"),
        requests=1,
    )


def _detail(usage: Any, group: str, name: str) -> int:
    return getattr(getattr(usage, group, None), name, None) or 0


def priced(usage: Usage, model: str, prices: Prices | None) -> Usage:
    """Return the usage with its cost, if the model has a price."""
    price = (prices or {}).get(model)
    if price is None:
        return usage
    cached = usage.cached_input_tokens
    cached_price = price[2] if len(price) > 2 else price[0]
    cost = (usage.input_tokens - cached) * price[0] + cached * cached_price + usage.output_tokens * price[1]
    return attrs.evolve(usage, cost_usd=cost / 1e6)

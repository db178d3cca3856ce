"""Token counts: from a provider's usage object to `Usage`, and its price."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
from agentd.types import Usage

from agentd_model_openai.prices import Price
from agentd_model_openai.source import Source

__all__ = ["Bill", "Told", "chat_usage", "estimated_tokens", "responses_usage"]

Told = tuple[Sequence[Any], *tuple[object, ...]]
MOST_TOKENS = 10**12
"""Of one request: a larger number is none, and would be too large to be priced."""
PICTURE_TOKENS = 1_000
"""Of a picture or file that stands in a message as data, as a guess: its own length says nothing."""


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
    return min(value, MOST_TOKENS) if type(value) is int and value > 0 else 0


class Bill:
    """The requests of one conversation, priced.

    `told` is what a request sends: the messages or items, to which is only ever added, and whatever comes along with
    them. So that a long conversation costs no more time than a short one, only what was added is looked at.

    :param source: says how often the last request was asked.
    """

    def __init__(self, price: Price | None, source: Source) -> None:
        self._price = price
        self._source = source
        self.forget()

    def forget(self) -> None:
        """The conversation begins anew."""
        self._sent = 0
        self._known = 0  # how many of the messages have these tokens

    def of(self, usage: Usage, told: Told) -> Usage:
        """Return the usage of the request that was answered, with its cost if there is a price.

        Streams that broke before they showed something and were asked for again are counted, too: what they read may be
        on the provider's bill.
        """
        if not usage.total_tokens:
            return usage
        sent = usage.input_tokens or self._next_tokens(told)  # some servers count the answer alone
        self._sent, self._known = sent, len(told[0])
        if self._price is None:
            return usage
        priced = attrs.evolve(usage, cost_usd=self._price.of(attrs.evolve(usage, input_tokens=sent)))
        again = Usage(input_tokens=sent, requests=1)
        again = attrs.evolve(again, cost_usd=self._price.of(again))
        return sum([again] * self._source.broken, priced)

    def guess(self, text: str, told: Told) -> Usage:
        """Return the usage of a request whose stream was closed early, after this text: 4 characters a token."""
        sent = self._next_tokens(told)
        return self.of(Usage(input_tokens=sent, output_tokens=len(text) // 4, requests=1), told)

    def next_usd(self, told: Told) -> float | None:
        """Return what the input of the next request costs: that of the last one, and by estimate what was added since.
        None without a price."""
        if self._price is None:
            return None
        return self._price.of(Usage(input_tokens=self._next_tokens(told)))

    def _next_tokens(self, told: Told) -> int:
        if self._known:
            return self._sent + estimated_tokens(told[0][self._known :])
        return estimated_tokens(told)


def estimated_tokens(told: object) -> int:
    """Guess how many tokens messages, items or tools have: 4 characters a token."""
    if isinstance(told, str):
        return PICTURE_TOKENS if told.startswith("data:") else len(told) // 4
    if isinstance(told, Mapping):
        return sum(1 + estimated_tokens(value) for value in told.values())
    return sum(map(estimated_tokens, told)) if isinstance(told, Iterable) else 0

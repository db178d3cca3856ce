"""What a run asks of models, and whatever runs below it: a session that a tool opens, a model that it asks."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

import attrs

from agentd.types import Usage

__all__ = ["Spending", "around"]

around: ContextVar[Spending | None] = ContextVar("agentd_spending", default=None)
"""What is spent here is part of this. A run sets it for its code and its tools."""


@attrs.define(eq=False)
class Spending:
    """The usage of each request. What is left of the money is bounded by what is left above. `run` is the `TurnLoop`
    that spends, while it goes on: who works for it may use what its budgets have left."""

    max_cost_usd: float | None = None
    requests: list[Usage] = attrs.field(factory=list)  # its append is atomic: a tool may have its own thread
    above: Spending | None = attrs.field(factory=around.get)
    run: Any = None
    _summed: tuple[int, Usage] = attrs.field(
        default=(0, Usage()), init=False
    )  # so many requests, and their sum

    def add(self, usage: Usage) -> None:
        """Count the usage of a request, here and above. From any thread."""
        self.requests.append(usage)
        if self.above is not None:
            self.above.add(usage)

    def total(self, since: int = 0) -> Usage:
        """Return the sum, without the first `since` requests."""
        if since:
            return sum(self.requests[since:], Usage())
        known, usage = self._summed
        added = self.requests[known:]
        self._summed = summed = known + len(added), sum(added, usage)
        return summed[1]

    def left_usd(self) -> float | None:
        """Return how much money may still be spent; None without a limit."""
        lefts = [] if self.above is None else [self.above.left_usd()]
        if self.max_cost_usd is not None:
            lefts.append(self.max_cost_usd - (self.total().cost_usd or 0.0))
        return min((left for left in lefts if left is not None), default=None)

"""What a run has left for whoever works for it: money, tokens, tool calls, time."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import attrs
from agentd.errors import ToolError
from agentd.protocols import Model, PricedModel
from agentd.turn.spending import Spending, around
from agentd.types import Budgets, Usage

__all__ = ["Purse", "is_spent", "own_run", "remainder"]


def _chain(spending: Spending | None) -> Iterator[Spending]:
    while spending is not None:
        yield spending
        spending = spending.above


def own_run() -> Any:
    """Return the run that the current call belongs to (a `TurnLoop`).

    :raises ToolError: if there is none any more.
    """
    run = next((s.run for s in _chain(around.get()) if s.run is not None), None)
    if run is None:
        raise ToolError("models are asked by the code of a run that still goes on; there is none here")
    return run


def is_spent(spending: Spending | None) -> str:
    """Return which budget of the runs around is used up, or an empty text. Money is looked at for each request."""
    for one in _chain(spending):
        run = one.run
        if run is None:
            continue
        most = run.budgets.max_tokens
        if most is not None and one.total().total_tokens >= most:
            return f"the run's tokens are used up (max_tokens={most})"
        if (left := _left_s(run)) is not None and left <= 0:
            return f"the run's time is over (wall_time_s={run.budgets.wall_time_s:g})"
    return ""


def _left_s(run: Any) -> float | None:
    limit = run.budgets.wall_time_s
    return None if limit is None else run.began + limit - time.monotonic()


def remainder(wanted: Budgets) -> Budgets:
    """Return the budgets of an agent that the current call starts: those, and no more than the runs around have left.

    Money is not lowered here: what is spent below counts above, where it is looked at before each request.

    :raises ToolError: if nothing is left of one.
    """
    found = wanted
    for one in _chain(around.get()):
        run = one.run
        if run is None:
            continue
        if said := is_spent(one):
            raise ToolError(f"no agent was started: {said}")
        limits = run.budgets
        left: dict[str, float | None] = {
            "wall_time_s": _left_s(run),
            "max_tokens": None if limits.max_tokens is None else limits.max_tokens - one.total().total_tokens,
            "max_tool_calls": None
            if limits.max_tool_calls is None
            else limits.max_tool_calls - run.tool_calls,
        }
        for name, rest in left.items():
            own = getattr(found, name)
            if rest is None or (own is not None and own <= rest):
                continue
            if rest <= 0:
                raise ToolError(f"no agent was started: the run has no {name} left")
            found = attrs.evolve(found, **{name: rest})  # type: ignore[arg-type]
    return found


class Purse:
    """The money of questions that are asked side by side out of one budget.

    What is under way is held: each question's input, and what an answer of that model has cost on average. One that
    might not be paid waits until others have been; if it cannot be paid even then, it is not asked. The first
    question to a model is asked alone. Without a money budget nothing waits. Belongs to one event loop.
    """

    def __init__(self) -> None:
        self._held_usd = 0.0
        self._under_way = 0
        self._answers: defaultdict[str, tuple[int, float]] = defaultdict(lambda: (0, 0.0))
        self._changed = anyio.Event()

    @asynccontextmanager
    async def pay(self, model: Model, spending: Spending) -> AsyncIterator[Callable[[Usage], None]]:
        """Wait until the next request may be sent, and hold its price while it is under way. What is returned takes
        what it has cost.

        :raises ToolError: if it cannot be paid; nothing was sent then.
        """
        held = await self._hold(model, spending)
        self._under_way += 1

        def bill(usage: Usage) -> None:
            spending.add(usage)
            if held is not None:
                count, total = self._answers[model.name]
                self._answers[model.name] = count + 1, total + max(0.0, (usage.cost_usd or 0.0) - held[1])

        try:
            yield bill
        finally:
            self._under_way -= 1
            if held is not None:
                self._held_usd = self._held_usd - held[0] if self._under_way else 0.0
            self._changed.set()
            self._changed = anyio.Event()

    async def _hold(self, model: Model, spending: Spending) -> tuple[float, float] | None:
        while True:
            if said := is_spent(spending):
                raise ToolError(f"{model.name!r} was not asked: {said}")
            left = spending.left_usd()
            if left is None:
                return None
            cost = model.next_cost_usd() if isinstance(model, PricedModel) else None
            if cost is None:
                raise ToolError(
                    f"{model.name!r} was not asked: the run has a money budget, and no price of it is known"
                )
            count, total = self._answers[model.name]
            reserved = cost + (total / count if count else 0.0)
            if not self._under_way or (count and self._held_usd + reserved <= left):
                if cost > left:
                    raise ToolError(
                        f"{model.name!r} was not asked: the question alone would cost more than what is left of "
                        f"the run's money (${max(0.0, left):.4f})"
                    )
                self._held_usd += reserved
                return reserved, cost
            await self._changed.wait()

"""Measures ways to do the same against each other, in one run and in turn, so that ratios hold on a busy machine."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping

__all__ = ["compare"]


async def compare(
    title: str, ways: Mapping[str, Callable[[], Awaitable[object]]], *, rounds: int = 60
) -> None:
    """Print the median of each way in milliseconds, how many times the first one's it is, and the last one's it is.

    In each round all have their turn, in another order: what one leaves for the next to do (a worker that is made
    again, say) falls on all of them alike.
    """
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():  # whatever starts with the first call
        for _ in range(3):
            await way()
    order, shuffle = list(ways.items()), random.Random(1).shuffle
    for _ in range(rounds):
        shuffle(order)
        for name, way in order:
            began = time.perf_counter()
            await way()
            taken[name].append((time.perf_counter() - began) * 1e3)
    medians = {name: statistics.median(times) for name, times in taken.items()}
    first, *_, last = medians.values()
    print(f"{title:45} {'ms':>8}  of the first, of the last")
    for name, median in medians.items():
        print(f"  {name:43} {median:8.2f}  {median / first:8.2f} x  {median / last:8.2f} x")

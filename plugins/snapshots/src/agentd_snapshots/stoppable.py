"""Blocking work in a thread that ends soon when its caller is cancelled."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from agentd_snapshots.content import Poll

__all__ = ["StoppedError", "run_stoppable"]

T = TypeVar("T")


class StoppedError(Exception):
    """The caller was cancelled."""


async def run_stoppable(work: Callable[[Poll], T]) -> T:
    """Run `work(poll)` in a thread and return its result.

    When the caller is cancelled, the next `poll()` raises, and the cancellation goes on once the thread has
    ended: the work is then done or undone, and nothing of it goes on behind the caller's back.
    """
    from agentd._concurrency.pool import call_in_thread

    stops: list[bool] = []

    def poll() -> None:
        if stops:
            raise StoppedError

    return await call_in_thread(lambda: work(poll), stop=lambda: stops.append(True))

"""Work on the event loop of a run: the client that the run asks its model with belongs to that loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

__all__ = ["on_loop_of"]

T = TypeVar("T")


async def on_loop_of(run: Any, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Do some work on the loop of a run (a `TurnLoop`), in the current context. Cancelling cancels it.

    A session serves its tools on its own loop, so that is mostly this one. The tools of a patched client run on a loop
    that all of them share.
    """
    home = getattr(run.call_loop, "__self__", None)
    if not isinstance(home, asyncio.AbstractEventLoop) or _running() is home:
        return await work()
    waiting: Awaitable[T] = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work(), home))
    return await waiting


def _running() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:  # trio's
        return None

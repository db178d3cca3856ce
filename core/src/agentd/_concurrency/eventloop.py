"""From any thread into an event loop, whichever of asyncio and trio it is.

anyio's own `from_thread.run` waits for the answer, which an I/O thread must not.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

__all__ = ["LoopCaller", "call_quietly", "loop_caller"]

LoopCaller = Callable[[Callable[[], object]], object]


def loop_caller() -> LoopCaller:
    """Return a function that has the running event loop call something soon.

    The returned function may be called from any thread and never blocks. It raises `RuntimeError` when the
    loop is closed (asyncio) or over (trio's `RunFinishedError`).
    """
    trio = sys.modules.get("trio")
    if trio is not None:
        try:
            token = trio.lowlevel.current_trio_token()
        except (RuntimeError, AttributeError):
            # No trio loop runs here. (AttributeError: another thread is just importing trio.)
            pass
        else:
            return token.run_sync_soon  # type: ignore[no-any-return]
    import asyncio

    return asyncio.get_running_loop().call_soon_threadsafe


def call_quietly(call: LoopCaller, function: Callable[[], object]) -> None:
    """Have a loop call something soon, and say nothing when it is gone: then nobody waits any more."""
    try:
        call(function)
    except RuntimeError:  # both a closed asyncio loop and trio's RunFinishedError
        pass

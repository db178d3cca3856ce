"""The context (`contextvars`) that a tool runs in: a copy of the one in which it was called for."""

from __future__ import annotations

import sys
from contextvars import Context, copy_context

__all__ = ["own_context"]


def own_context() -> Context:
    """Return a copy of the current context for one call: what the call sets is not there in the next one."""
    context = copy_context()
    sniffio = sys.modules.get("sniffio")
    if (
        sniffio is not None
    ):  # which loop runs the caller says nothing of the thread, or the loop, that runs the tool
        context.run(sniffio.current_async_library_cvar.set, None)
    return context

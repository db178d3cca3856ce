"""Which call a tool source answers: for one that opens sessions, or asks models, in the name of whoever calls."""

from __future__ import annotations

import sys
from contextvars import ContextVar
from typing import Any

import attrs

__all__ = ["SourceCall", "current_call", "know_loop"]


@attrs.frozen
class SourceCall:
    """A call of a source's tool, seen from the source. What it spends belongs to `agentd.turn.spending.around`.

    :ivar session: the session or client whose tool set it is, which is its `ToolEvents`; None for a set of its own.
    :ivar action_id: the block or native call that it came from, or empty.
    :ivar event_id: what its events call it.
    """

    session: Any
    action_id: str
    event_id: str


current_call: ContextVar[SourceCall | None] = ContextVar("agentd_source_call", default=None)
"""Set in the context in which `ToolSource.call` and `DirectSource.begin` are called."""


def know_loop() -> None:
    """Note, in a task, which library's loop runs it: a call forgets whose loop it came from. What the task starts by a
    callback has its context, and no task by which anyio could tell the loop."""
    sniffio = sys.modules.get("sniffio")
    if sniffio is not None and sniffio.current_async_library_cvar.get() is None:
        sniffio.current_async_library_cvar.set(sniffio.current_async_library())

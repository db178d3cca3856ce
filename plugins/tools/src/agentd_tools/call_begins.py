"""Who is to know of a call before it runs: what sets a current span, say."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

__all__ = ["CallBegins", "call_begins"]

CallBegins = Callable[[str, str, str], None]
"""Called with the id that the call's events have, the tool's name in Python, and the block's id if code calls."""

call_begins: ContextVar[CallBegins | None] = ContextVar("agentd_call_begins", default=None)
"""Set it where a run begins (an event sink may, when `run_start` comes), and it is called for each call of a tool in
that run, in the call's own context: what it sets there, and nothing else, is what the tool finds. It must not block or
raise.
"""

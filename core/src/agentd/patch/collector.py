"""The base of what listens to a run for a caller of the SDK."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from agentd.events import Event, RunEnd
from agentd.listener import Listener

if TYPE_CHECKING:
    from agentd.protocols import EventSink

__all__ = ["Collector"]

log = logging.getLogger("agentd.patch")


class Collector(Listener):
    """Passes events on to the sinks and remembers how the run ended."""

    def __init__(self, sinks: list[EventSink]) -> None:
        self._sinks = sinks
        self.on_turn_over: Callable[[], None] = lambda: None
        """Called with each round's end, before anything else of it."""
        self.end: RunEnd | None = None

    def emit(self, event: Event) -> None:
        if isinstance(event, RunEnd):
            self.end = event
        for sink in list(self._sinks):
            try:
                sink.emit(event)
            except Exception:  # a plugin's boundary: a sink does not end a run
                log.exception("the event sink %r failed and is left out from now on", sink)
                self._sinks.remove(sink)
        self.on_event(event)

    def turn_over(self, answer: str, *, cut: bool, last: bool) -> None:
        self.on_turn_over()
        self.round_over()

    def round_over(self) -> None:
        """Deal with a round's end; for subclasses."""

    def on_event(self, event: Event) -> None:
        """Take an event; for subclasses."""

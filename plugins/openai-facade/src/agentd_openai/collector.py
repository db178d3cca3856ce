"""The base of what listens to a run for a caller of the SDK."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from agentd.events import Event, RunEnd
from agentd.turn.observer import Listener

if TYPE_CHECKING:
    from agentd.turn.observer import SinkGroup

__all__ = ["Collector"]


class Collector(Listener):
    """Passes events on to the sinks and remembers how the run ended."""

    def __init__(self, sinks: SinkGroup) -> None:
        self._sinks = sinks
        self.on_turn_over: Callable[[], None] = lambda: None
        """Called with each round's end, before anything else of it."""
        self.end: RunEnd | None = None

    def emit(self, event: Event) -> None:
        if isinstance(event, RunEnd):
            self.end = event
        self._sinks.emit(event)
        self.on_event(event)

    def turn_over(self, answer: str, *, cut: bool, last: bool) -> None:
        self.on_turn_over()
        self.round_over()

    def round_over(self) -> None:
        """Deal with a round's end; for subclasses."""

    def on_event(self, event: Event) -> None:
        """Take an event; for subclasses."""

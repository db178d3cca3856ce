"""The base of what listens to a run for a caller of the SDK."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from agentd.events import Event, RunEnd
from agentd.turn.observer import Listener

if TYPE_CHECKING:
    from agentd.protocols import Offers
    from agentd.turn.observer import SinkGroup
    from agentd.turn.transcript import Transcript

    from agentd_openai.state import Mode

__all__ = ["Collector", "RunningCall"]


class RunningCall(Protocol):
    """What a collector asks of the call that it answers."""

    @property
    def api(self) -> str:
        """`"responses"` or `"chat"`."""

    @property
    def mode(self) -> Mode: ...

    @property
    def model(self) -> Any: ...

    @property
    def offers(self) -> Offers: ...

    @property
    def transcript(self) -> Transcript: ...

    def added(self) -> list[Any]:
        """Return what the run has added to the conversation, in the API's own form."""

    def record(self, **more: Any) -> dict[str, Any]:
        """Return the extra field `agentd` of an answer."""

    @property
    def holds_text(self) -> bool:
        """Whether only the last answer's text is for the caller, who reads it as JSON."""

    def wants_results(self) -> bool:
        """Tell whether the caller has asked for the tools' results in the stream."""


class Collector(Listener):
    """Passes events on to the sinks and remembers how the run ended."""

    def __init__(self, sinks: SinkGroup) -> None:
        self._sinks = sinks
        self.on_turn_over: Callable[[], None] = lambda: None
        """Called with each round's end, before anything else of it."""
        self.end: RunEnd | None = None

    @property
    @abstractmethod
    def has_answer(self) -> bool:
        """Whether something of an answer has come, which the caller's object can be made of."""

    def emit(self, event: Event) -> None:
        if isinstance(event, RunEnd):
            self.end = event
        self._sinks.emit(event)
        self.on_event(event)

    def turn_over(self, answer: str, *, cut: bool, last: bool) -> None:
        self.on_turn_over()
        self.round_over(last=last)

    def round_over(self, *, last: bool) -> None:
        """Deal with a round's end; for subclasses."""

    def on_event(self, event: Event) -> None:
        """Take an event; for subclasses."""

"""What a run tells the outside: the facade, the readers of a session, the sinks."""

from __future__ import annotations

from agentd.events import Event
from agentd.protocols import ModelEvent, ModelToolCall

__all__ = ["Listener"]


class Listener:
    """What a run tells the outside. Called in the event loop; must not block. Override what you need.

    For each model event of an answer: `model_event` before its text is parsed, then `emit` for what the
    text gave and `certain` for how much of the answer counts, then `parsed`.
    """

    def emit(self, event: Event) -> None:
        """Take an event of the run."""

    def model_event(self, event: ModelEvent) -> None:
        """See an event of the model as it came."""

    def certain(self, end: int) -> None:
        """Learn that the first `end` characters of this answer belong to what is recorded."""

    def parsed(self) -> None:
        """Learn that everything in the last model event has been dealt with."""

    def call_begun(self, id: str, call: ModelToolCall) -> None:
        """Learn that a native call of the model is ours to answer, and the id that its events will have."""

    def call_over(self, id: str, answer: str) -> None:
        """Learn what the model will read about that call; the call's last event follows."""

    def turn_over(self, answer: str, *, cut: bool, last: bool) -> None:
        """Learn that a round ended, with the answer as recorded; `last` if it ends the run by itself."""

    def is_full(self) -> bool:
        """Say that the reader is behind."""
        return False

    async def flow(self) -> None:
        """Wait until the reader is no longer behind."""

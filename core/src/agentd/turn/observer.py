"""Who observes a run: listeners (the facade, the reader of a session) and the event sinks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from agentd.events import Event
from agentd.protocols import ModelEvent, ModelToolCall

if TYPE_CHECKING:
    from agentd._concurrency.channel import Channel
    from agentd.protocols import EventSink
    from agentd.registry import Registry
    from agentd.registry.options import PluginSpec

__all__ = ["ChannelListener", "Listener", "SinkGroup"]

log = logging.getLogger("agentd.session")


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


class SinkGroup:
    """Passes events on. A sink that raises, `SystemExit` too, ends no run: it is logged and left out.

    :param wanted: names of sink plugins, with options perhaps, or objects.
    """

    def __init__(self, wanted: Sequence[PluginSpec | EventSink] = ()) -> None:
        self._wanted = tuple(wanted)
        self._open: list[EventSink] | None = None

    def open(self, registry: Callable[[], Registry]) -> None:
        """Make the sinks that were named, unless they are there."""
        if self._open is None:
            self._open = [
                registry().create_event_sink(s) if isinstance(s, str | tuple | list) else s
                for s in self._wanted
            ]

    def emit(self, event: Event) -> None:
        """Give the event to every sink."""
        if not self._open:
            return
        for sink in list(self._open):
            try:
                sink.emit(event)
            except (Exception, SystemExit):  # a plugin's boundary: a sink does not end a run
                log.exception("the event sink %r failed and is left out from now on", sink)
                self._open.remove(sink)

    def close(self) -> None:
        """Close the sinks, each whatever the others do; `open` makes new ones."""
        sinks, self._open = self._open or [], None
        for sink in sinks:
            try:
                sink.close()
            except (Exception, SystemExit):  # a plugin's boundary
                log.exception("the event sink %r failed to close", sink)


class ChannelListener(Listener):
    """Gives events to the reader of a run and to the sinks."""

    def __init__(self, channel: Channel[Event] | None, sinks: SinkGroup) -> None:
        self._channel = channel
        self._sinks = sinks
        if channel is not None:
            self.is_full = channel.is_full  # type: ignore[method-assign]

    def emit(self, event: Event) -> None:
        if self._channel is not None:
            self._channel.put(event)
        self._sinks.emit(event)

    async def flow(self) -> None:
        if self._channel is not None:
            await self._channel.flow()

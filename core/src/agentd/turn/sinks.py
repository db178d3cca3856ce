"""The event sinks of a session or client: every event goes to each, and one that raises is left out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from agentd.events import Event

if TYPE_CHECKING:
    from agentd.protocols import EventSink
    from agentd.registry import Registry
    from agentd.registry.options import PluginSpec

__all__ = ["SinkGroup"]

log = logging.getLogger("agentd.session")


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

"""Views: what `agentd run` prints of a run, by option: everything, JSON lines, or the answer alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import attrs
from agentd.events import Event, RunEnd
from agentd.protocols import EventSink
from agentd_sink_console.console import ConsoleSink
from agentd_sink_console.terminal import FOLD_LINES, sink_for

__all__ = ["AnswerOnly", "Progress", "make_view"]


class AnswerOnly:
    """A sink that prints the last answer's prose at the end and nothing before."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def emit(self, event: Event) -> None:
        if isinstance(event, RunEnd) and event.text.strip():
            from agentd_sink_console.neutral import neutral

            self._stream.write(neutral(event.text).strip("\n") + "\n")
            self._stream.flush()

    def close(self) -> None:
        pass


def make_view(stream: TextIO, *, as_json: bool, quiet: bool, full_output: bool = False) -> EventSink:
    """Return the sink that prints a run on `stream`."""
    if as_json:
        from agentd_cli.json_lines import JsonLines

        return JsonLines(stream)
    if quiet:
        return AnswerOnly(stream)
    return sink_for(stream, fold_lines=None if full_output else FOLD_LINES)


@attrs.define
class Progress:
    """Shows events in a view and keeps how the run ended."""

    view: EventSink
    end: RunEnd | None = None
    _held: list[Event] | None = None

    def emit(self, event: Event) -> None:
        """Show the event. An error is left to who reports it on standard error, except in JSON."""
        if isinstance(event, RunEnd):
            self.end = event
        if self._held is not None:
            self._held.append(event)
            return
        if isinstance(event, RunEnd) and event.error and isinstance(self.view, ConsoleSink):
            return
        self.view.emit(event)

    @contextmanager
    def apart(self) -> Iterator[None]:
        """While entered, nothing is drawn on a terminal: it belongs to a question. What comes is shown afterwards."""
        if isinstance(self.view, ConsoleSink):
            self._held = []
            self.view.pause()
        try:
            yield
        finally:
            held, self._held = self._held or [], None
            for event in held:
                self.emit(event)

"""The plugin `console`: shows a run on standard output or standard error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from agentd.hookspecs import hookimpl
from agentd.protocols import EventSink
from agentd.registry.options import check_options

AGENTD_API = 1


@hookimpl
def agentd_create_event_sink(options: Mapping[str, Any]) -> EventSink:
    """Options: `stream` ("stdout", the default, or "stderr") and `color` (default: as the terminal)."""
    import sys

    from agentd_sink_console.console import ConsoleSink

    known = {"stream": Literal["stdout", "stderr"], "color": bool | None}
    check_options("the event sink 'console'", options, known)
    stream, color = options.get("stream", "stdout"), options.get("color")
    return ConsoleSink(sys.stdout if stream == "stdout" else sys.stderr, color=color)

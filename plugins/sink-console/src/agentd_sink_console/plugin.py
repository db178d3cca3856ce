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
    """Options: `stream` ("stdout", the default, or "stderr"), `color` (default: as the terminal), and `fold_lines`:
    lines of one block's output on a terminal (default 20; null for all)."""
    import sys

    from agentd_sink_console.terminal import FOLD_LINES, sink_for

    known = {"stream": Literal["stdout", "stderr"], "color": bool | None, "fold_lines": int | None}
    check_options("the event sink 'console'", options, known)
    stream = sys.stderr if options.get("stream") == "stderr" else sys.stdout
    return sink_for(stream, color=options.get("color"), fold_lines=options.get("fold_lines", FOLD_LINES))

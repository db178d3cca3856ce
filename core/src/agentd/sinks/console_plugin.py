"""The plugin `console`: shows a run on standard output or standard error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentd.errors import ConfigError, suggest
from agentd.hookspecs import hookimpl
from agentd.protocols import EventSink

AGENTD_API = 1


@hookimpl
def agentd_create_event_sink(options: Mapping[str, Any]) -> EventSink:
    """Options: `stream` ("stdout", the default, or "stderr") and `color` (default: as the terminal)."""
    import sys

    from agentd.sinks.console import ConsoleSink

    for key in options:
        if key not in ("stream", "color"):
            raise ConfigError(
                f"unknown option {key!r} of the console sink; allowed: 'color', 'stream'"
                + suggest(key, ["color", "stream"])
            )
    stream = options.get("stream", "stdout")
    if stream not in ("stdout", "stderr"):
        raise ConfigError(f"console sink: stream must be 'stdout' or 'stderr', got {stream!r}")
    color = options.get("color")
    if color is not None and not isinstance(color, bool):
        raise ConfigError(f"console sink: color must be true or false, got {color!r}")
    return ConsoleSink(sys.stdout if stream == "stdout" else sys.stderr, color=color)

"""The plugin `otel`: spans and metrics of a run, for OpenTelemetry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentd.hookspecs import hookimpl
from agentd.protocols import EventSink
from agentd.registry.options import check_options

AGENTD_API = 1


@hookimpl
def agentd_create_event_sink(options: Mapping[str, Any]) -> EventSink:
    """Options: `content` (spans have the task, code, arguments and results: false), `endpoint` (an OTLP receiver, such
    as http://127.0.0.1:4318), `service` (the name that the receiver shows: agentd), `tracer_provider` and
    `meter_provider` (the program's own objects)."""
    from agentd_sink_otel.sink import OtelSink

    known = {
        "content": bool,
        "endpoint": str,
        "service": str,
        "tracer_provider": object,
        "meter_provider": object,
    }
    check_options("the event sink 'otel'", options, known)
    return OtelSink(**options)

"""The OpenTelemetry sink keeps the contract of event sinks."""

from __future__ import annotations

from pathlib import Path

from agentd.protocols import EventSink
from agentd_sink_otel.sink import OtelSink
from agentd_testing import EventSinkContract
from opentelemetry.trace import NoOpTracerProvider


class TestOtelSink(EventSinkContract):
    def make_sink(self, folder: Path) -> EventSink:
        return OtelSink(tracer_provider=NoOpTracerProvider())

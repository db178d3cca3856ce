"""The JSONL sink keeps the contract of event sinks."""

from __future__ import annotations

from pathlib import Path

from agentd.protocols import EventSink
from agentd_sink_jsonl.jsonl import JsonlSink
from agentd_testing import EventSinkContract


class TestJsonlSink(EventSinkContract):
    def make_sink(self, folder: Path) -> EventSink:
        return JsonlSink(folder / "runs")

"""The console sink keeps the contract of event sinks."""

from __future__ import annotations

import io
from pathlib import Path

from agentd.protocols import EventSink
from agentd_sink_console.console import ConsoleSink
from agentd_testing import EventSinkContract


class TestConsoleSink(EventSinkContract):
    def make_sink(self, folder: Path) -> EventSink:
        return ConsoleSink(io.StringIO(), color=True, width=80)

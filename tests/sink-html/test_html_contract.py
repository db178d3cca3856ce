"""The HTML sink keeps the contract of event sinks."""

from __future__ import annotations

from pathlib import Path

from agentd.protocols import EventSink
from agentd_sink_html.sink import HtmlSink
from agentd_testing import EventSinkContract


class TestHtmlSink(EventSinkContract):
    def make_sink(self, folder: Path) -> EventSink:
        return HtmlSink(folder / "pages")

"""A source over a (scripted) MCP server keeps the contract of tool sources."""

from __future__ import annotations

from typing import Any, ClassVar

from agentd.testing import ToolSourceContract
from agentd_mcp_bridge.source import McpSource
from helpers import source


class TestMcpSource(ToolSourceContract):
    good_calls: ClassVar[dict[str, tuple[dict[str, Any], object]]] = {
        "echo": ({"text": "42"}, "42"),
        "content": ({"parts": [{"type": "text", "text": "x"}]}, "x"),
    }
    bad_calls: ClassVar[dict[str, dict[str, Any]]] = {"fail": {}, "refuse": {}}

    def make_source(self) -> McpSource:
        return source()

"""A source over a (scripted) MCP server keeps the contracts of tool sources and of sources of subscriptions."""

from __future__ import annotations

from typing import Any, ClassVar

from agentd_mcp_bridge.source import McpSource
from agentd_testing import SubscriptionSourceContract, ToolSourceContract
from helpers import source


class TestMcpSource(ToolSourceContract):
    good_calls: ClassVar[dict[str, tuple[dict[str, Any], object]]] = {
        "echo": ({"text": "42"}, "42"),
        "content": ({"parts": [{"type": "text", "text": "x"}]}, "x"),
    }
    bad_calls: ClassVar[dict[str, dict[str, Any]]] = {"fail": {}, "refuse": {}}

    def make_source(self) -> McpSource:
        return source()


class TestMcpSubscriptions(SubscriptionSourceContract):
    uri = "note://1"

    def make_source(self) -> McpSource:
        return source()

    async def change(self, source: McpSource) -> None:
        await source.call("touch", {"uri": self.uri})

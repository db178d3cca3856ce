"""The trigger `mcp-events` keeps the contract of triggers, over a real server of the SDK's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
from agentd.protocols import ToolSource
from agentd.registry import Registry
from agentd_daemon.config.values import AgentServerConfig
from agentd_daemon.sources import ServerPool
from agentd_testing import TriggerContract
from event_lines import events_server


class TestMcpEvents(TriggerContract):
    kind = "mcp-events"
    wrong_options: ClassVar[Any] = ({}, {"event": "x", "poll_s": 0}, {"event": "x", "arguments": []})

    @pytest.fixture(autouse=True)
    def _quick(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The server of these tests wishes to be asked at once."""
        monkeypatch.setattr("agentd_trigger_mcp_events.trigger.LEAST_WAIT_S", 0.02)

    def options(self, place: Path) -> dict[str, Any]:
        return {"event": "line.added"}

    @asynccontextmanager
    async def sources(self, place: Path) -> AsyncIterator[Sequence[ToolSource]]:
        lines = place / "lines"
        lines.touch()
        described = events_server(lines)
        pool = ServerPool(Registry().create_tool_sources)
        share = pool.share(
            AgentServerConfig(command=described["command"], arguments=tuple(described["arguments"]))
        )
        try:
            yield (share,)
        finally:
            await pool.give_back(share)

    async def cause(self, place: Path, number: int) -> str:
        lines, line = place / "lines", f"new-{number}\n"
        if line not in lines.read_text():
            with lines.open("a") as file:
                file.write(line)
        return f'"line": "new-{number}"'

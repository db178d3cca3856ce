"""Which revision of the protocol is spoken, and servers that are not clear about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from agentd.errors import ConfigError, ToolError
from agentd_mcp_bridge.targets import read_target
from helpers import numbers, source


@pytest.fixture
def anyio_backend() -> str:
    """Servers do not see on what loop the caller is."""
    return "asyncio"


@pytest.mark.anyio
@pytest.mark.parametrize("start", ["half", "once", "strict"])
async def test_a_server_that_wants_a_handshake_after_all_gets_one_once_in_a_new_process(
    start: str, tmp_path: Path
) -> None:
    journal = tmp_path / "journal"
    made = source(start, journal)
    assert "echo" in [spec.name for spec in await made.list_tools()]
    assert await made.call("echo", {"text": "hi"}) == "hi"
    assert len(numbers(journal, "start")) == 2
    with pytest.raises(ToolError, match="died during this call"):
        await made.call("die", {})
    assert await made.call("echo", {"text": "again"}) == "again"  # remembered: no third way is tried
    assert len(numbers(journal, "start")) == 3
    assert journal.read_text().count("server/discover") == 1
    await made.aclose()


@pytest.mark.anyio
@pytest.mark.parametrize("protocol", ["legacy", "2025-11-25"])
async def test_an_older_revision_can_be_asked_for(protocol: str, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    made = source("half", journal, protocol=protocol)
    await made.list_tools()
    assert await made.call("echo", {"text": "hi"}) == "hi"
    assert len(numbers(journal, "start")) == 1
    assert "server/discover" not in journal.read_text()
    await made.aclose()


@pytest.mark.parametrize("protocol", ["2025-11-26", 2026, ""])
def test_a_revision_that_there_is_not_is_refused(protocol: Any) -> None:
    with pytest.raises(ConfigError, match=r"protocol: must be one of auto, legacy, .*2025-11-25, got"):
        read_target({"command": "x", "protocol": protocol})

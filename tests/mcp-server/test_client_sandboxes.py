"""The sandboxes of clients, without a server."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import anyio
import pytest
from agentd_mcp_server import client_sandboxes as room
from agentd_mcp_server.client_sandbox import ClientSandbox
from agentd_mcp_server.client_sandboxes import ClientSandboxes

pytestmark = pytest.mark.anyio


class _BadEnd(ClientSandbox):
    """Fails when it has ended."""

    async def aclose(self) -> None:
        await super().aclose()
        raise RuntimeError("a bad end")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # as the server has it


async def test_a_sandbox_that_ends_badly_ends_no_other_and_not_the_server(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "ClientSandbox", _BadEnd)

    def settings(name: str) -> dict[str, Any]:
        folder = tmp_path / name
        folder.mkdir()
        return {"cwd": folder, "executor": "subprocess"}

    with caplog.at_level(logging.ERROR, "agentd.mcp"), anyio.fail_after(60):
        async with ClientSandboxes(settings, idle_s=0.01) as sandboxes:
            await sandboxes.find("one")
            while "one" in sandboxes:
                await anyio.sleep(0)
            await sandboxes.find("two")
            await sandboxes.find("three")
    assert [record.args for record in caplog.records] == [("one",), ("two",), ("three",)]

"""The sandboxes of clients, without a server."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import anyio
import pytest
from agentd_mcp_server import client_sandboxes as room, tools
from agentd_mcp_server.client_sandbox import ClientSandbox
from agentd_mcp_server.client_sandboxes import ClientSandboxes
from agentd_mcp_server.given import GivenRegistry

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


class Nobody:
    """A person who hears output, and is asked nothing."""

    async def heard(self, text: str) -> None: ...


async def test_a_workspace_that_was_deleted_is_named_by_each_tool_that_needs_it(tmp_path: Path) -> None:
    folder = tmp_path / "w"

    async def call(name: str, **given: Any) -> tuple[bool, str]:
        person: Any = Nobody()
        result = await tools.carry_out(sandbox, name, tools.check(name, given), person)
        return bool(result.is_error), " ".join(getattr(part, "text", "") for part in result.content)

    settings = {"cwd": folder, "executor": "subprocess", "registry": GivenRegistry()}
    async with ClientSandboxes(lambda name: settings) as sandboxes:
        sandbox = await sandboxes.find()
        assert await call("run_bash", code="echo 1 > kept") == (False, "")
        assert (await call("checkpoint"))[0] is False
        shutil.rmtree(folder)
        for name, given in (
            ("list_files", {}),
            ("checkpoint", {}),
            ("create_file", {"path": "a", "content": ""}),
        ):
            failed, said = await call(name, **given)
            assert failed, name
            assert f"the workspace {str(folder)!r} cannot be opened: No such file or directory" in said, name
        assert (await call("rewind"))[0] is False  # as the errors say
        assert "kept  2 bytes" in (await call("list_files"))[1]

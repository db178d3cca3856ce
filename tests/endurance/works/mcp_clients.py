"""Clients of `agentd mcp`: over HTTP, some of which hang up in a call, and over standard input."""

from __future__ import annotations

import shutil
import sys
import uuid
from pathlib import Path

import anyio
from mcp_serving import Wire, text

from endurance.works.work import Work

__all__ = ["McpClients"]


class McpClients(Work):
    """A client of the SDK, one that speaks bytes and leaves, and in every fourth piece a server of its own, killed."""

    name = "mcp-clients"
    lane = "mcp"
    needs = ("mcp",)
    pause_s = 1.5

    def once(self) -> None:
        self.number += 1
        url = self.place.programs["mcp"].address
        anyio.run(self._over_http, url)
        self._hangs_up(url)
        if self.number % 4 == 0:
            self._over_stdio()
        self.tally.add(clients=2)

    async def _over_http(self, url: str) -> None:
        from mcp import Client

        async with Client(url) as client:
            await client.call_tool("run_bash", {"code": "export CITY=Paris"})
            said = text(await client.call_tool("run_bash", {"code": "echo $CITY"}))
            assert said.strip() == "Paris", said
            said = text(await client.call_tool("run_python", {"code": "print(6 * 7)"}))
            assert said.strip() == "42", said
        self.tally.add(blocks=3)

    def _hangs_up(self, url: str) -> None:
        wire = Wire(url)
        try:
            wire.begin()
            done = wire.run(1, "run_bash", code="echo on")
            assert "on" in str(done["result"]["content"]), done
            wire.call(2, "run_bash", code="echo runs; sleep 765432")
        finally:
            wire.hang_up()
        wire.request(
            "DELETE"
        ).read()  # else its sandbox would stay for half an hour, and be growth until then
        wire.hang_up()
        self.tally.add(blocks=1, hung_up=1)

    def _over_stdio(self) -> None:
        folder = self.place.folder(f"mcp-{uuid.uuid4().hex[:8]}")
        try:
            anyio.run(self._in_a_process, folder)
        finally:
            shutil.rmtree(folder)

    async def _in_a_process(self, folder: Path) -> None:
        from mcp import Client, StdioServerParameters

        command = ["-m", "agentd", "mcp", "--cwd", str(folder / "w"), "-e", "subprocess"]
        server = StdioServerParameters(command=sys.executable, args=command, env=self.world.env())
        async with Client(server) as client:
            seen = text(await client.call_tool("run_python", {"code": "import os; print(os.getpid())"}))
            assert int(seen)
            if self.number % 8 == 0:
                await self._kill(client)
        self.tally.add(blocks=1, sessions=1)

    async def _kill(self, client: object) -> None:
        """Kill the code's own interpreter: its call is an error, and the next one works."""
        kill = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
        await client.call_tool("run_python", {"code": kill})  # type: ignore[attr-defined]
        again = text(await client.call_tool("run_python", {"code": "print('on')"}))  # type: ignore[attr-defined]
        assert again.strip().endswith("on"), again
        self.tally.add(killed_runners=1)

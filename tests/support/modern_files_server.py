"""An MCP server of the SDK's over stdio (2026-07-28) whose resources are the files of a folder.

    python modern_files_server.py FOLDER

Who listens to `file://FOLDER/NAME` is told when that file is written.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import anyio
import mcp_types as types
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ResourceUpdated

LOOK_S = 0.02


class Files:
    """The folder, and what is told of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bus = InMemorySubscriptionBus()
        self.server: Server[Any] = Server(
            "modern-files", on_read_resource=self.read, on_subscriptions_listen=ListenHandler(self.bus)
        )

    async def read(self, ctx: Any, params: Any) -> types.ReadResourceResult:
        text = (self.folder / params.uri.rsplit("/", 1)[1]).read_text(encoding="utf-8")
        return types.ReadResourceResult(contents=[types.TextResourceContents(uri=params.uri, text=text)])

    def state(self) -> dict[str, tuple[int, int]]:
        return {path.name: (path.stat().st_mtime_ns, path.stat().st_size) for path in self.folder.iterdir()}

    async def watch(self) -> None:
        before = self.state()
        while True:
            await anyio.sleep(LOOK_S)  # what this server does for a living
            now = self.state()
            for name in sorted(now):
                if now[name] != before.get(name):
                    await self.bus.publish(ResourceUpdated(uri=f"file://{self.folder}/{name}"))
            before = now

    async def serve(self) -> None:
        async with stdio_server() as (read, write), anyio.create_task_group() as group:
            group.start_soon(self.watch)
            await self.server.run(read, write, self.server.create_initialization_options())
            group.cancel_scope.cancel()


if __name__ == "__main__":
    anyio.run(Files(Path(sys.argv[1])).serve)

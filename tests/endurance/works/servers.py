"""MCP servers of sessions: their tools called by code, and servers that are killed between two runs."""

from __future__ import annotations

import os
import select
import shutil
import signal
import sys
import uuid
from pathlib import Path
from typing import Any

import anyio
from agentd import Session
from living import HERE, starts

from endurance.model import bash, python, task
from endurance.works.sessions import check, settings_of, turns
from endurance.works.work import Work

__all__ = ["McpServers", "kill_newest"]

GONE_S = 10.0


def kill_newest(log: Path, folder: Path) -> bool:
    """Kill the newest server that this log tells of, if it still is one, and wait for its end: on a busy machine, it
    would take a call before that. Tell whether it was."""
    pids = starts(log)
    if not pids:
        return False
    try:
        server = os.pidfd_open(pids[-1])
    except OSError:
        return False
    try:
        if os.fsencode(folder) not in Path(f"/proc/{pids[-1]}/cmdline").read_bytes():
            return False
        signal.pidfd_send_signal(server, signal.SIGKILL)
        return bool(select.select([server], [], [], GONE_S)[0])
    except OSError:
        return False
    finally:
        os.close(server)


class McpServers(Work):
    """A session with a server over stdio: 5 calls, `kill -9` of the server in every other, 5 calls."""

    name = "mcp-servers"
    pause_s = 1.0

    def once(self) -> None:
        self.number += 1
        folder = self.place.folder(f"server-{uuid.uuid4().hex[:8]}")
        (folder / "served").mkdir()
        (folder / "served" / "page").write_text("a page")
        try:
            anyio.run(self._talk, folder)
        finally:
            shutil.rmtree(folder)
        self.tally.add(sessions=1)

    async def _talk(self, folder: Path) -> None:
        log = folder / "log"
        command = ["-S", str(HERE / "files_server.py"), str(folder / "served"), "--log", str(log)]
        server: dict[str, Any] = {"command": sys.executable, "args": command, "name": "files"}
        settings = settings_of(self, self.number, folder / "w", mcp_servers=[{"type": "stdio", **server}])
        calls = python(
            "from lib.tools import look\nprint(sum('a page' in str(look(name='page')) for _ in range(5)))"
        )
        async with Session("scripted", **settings) as session:
            turns(self, session, await session.ask(task(calls)))
            check(session, "5")
            if self.number % 2:
                self.tally.add(killed_servers=kill_newest(log, folder))
            turns(self, session, await session.ask(task(bash("true"), calls)))
            check(session, "", "5")
            self.tally.add(blocks=3, calls=10)

"""Real MCP servers for tests, and the world of code that calls them."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from agentd._concurrency.waiting import loop_caller
from agentd.session.resources import SessionResources
from agentd.types import PythonAction
from places import ROOT

__all__ = ["World", "listening", "npm_server", "processes"]

NPM = ROOT / ".cache" / "npm" / "node_modules"


class World:
    """Resources with servers, and what its code did and was told."""

    def __init__(self, bench: SessionResources) -> None:
        self.bench = bench
        self.events: list[Any] = []
        self.changed = 0
        self._run, self._ids = bench.new_run()

    async def python(self, code: str) -> str:
        """Run a Python block and return what it printed; the test fails if the block does."""
        action = PythonAction(code=dedent(code), timeout_s=60)
        result = await self.bench.executor.run(action, action_id=self._ids())
        assert result.exit_code == 0, result.output
        return result.stdout.decode()

    def watch(self) -> None:
        """Collect events from now on."""
        self.bench.events.add(self._run, loop_caller(), self.events.append)

    def of(self, kind: str) -> list[Any]:
        """The events of a kind."""
        return [event for event in self.events if event.type == kind]


def npm_server(package: str) -> list[str]:
    """The command line of an MCP server from npm; skips the test (fails it in CI) if it is not installed."""
    script = NPM / "@modelcontextprotocol" / package / "dist" / "index.js"
    node = shutil.which("node")
    if node is None or not script.exists():
        reason = f"{package} is not installed: it needs Node.js >= 20 with npm; then run scripts/setup"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return [node, str(script)]


@contextmanager
def listening(kind: str, port: int = 0) -> Iterator[int]:
    """Run server-everything over HTTP (`streamableHttp` or `sse`) on a loopback port; give the port. It is killed
    at the end."""
    command = [*npm_server("server-everything"), kind]
    if not port:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
    environment = {"PATH": os.environ["PATH"], "PORT": str(port)}
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as server:
        try:
            assert server.stderr is not None
            for line in server.stderr:
                if str(port).encode() in line:
                    break
            else:
                pytest.fail(f"server-everything ended with {server.wait()} instead of listening")
            drain = threading.Thread(target=server.stderr.read)  # a full pipe would stop it
            drain.start()
            yield port
        finally:
            server.kill()
            server.wait()
        drain.join()


def processes(marker: str) -> list[int]:
    """The living servers with that word on their command line (not those that watch over them)."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            words = (directory / "cmdline").read_bytes().split(b"\0")
            if marker.encode() in words and words[0].endswith(b"node"):
                found.append(int(directory.name))
        except OSError:
            continue
    return found

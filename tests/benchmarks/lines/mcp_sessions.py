"""How long a conversation waits for its MCP servers.

Ours, `second`: a call of the patched client with the server that its last call had, a model without latency that
just answers, and how many server processes there are then. 0.8.6 hangs or fails there, so theirs is not asked.
Ours, `many`: 1,000 tools on 40 stdio servers: from the first call of a fresh client to the model's first request
(processes started, tools listed, bindings written), what is sent to the model, one call from code, and
`skills search` in a block.
Floor: the bare SDK's answer; 40 clients of the MCP SDK, opened and listed side by side."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import mcp_server
from benchmarks.kit import amedian_ms, descendants
from benchmarks.line import Figures, Line, Row
from benchmarks.scripted import ScriptedModel

LINE = Line(
    name="mcp_sessions",
    rows=(
        Row(
            key="over_ms", title="second create() with the same MCP server, over the SDK", unit="ms", limit=5
        ),
        Row(key="processes", title="  server processes after it", unit="", limit=1),
        Row(key="start_ms", title="1,000 tools on 40 MCP servers: start to first request", unit="ms"),
        Row(key="prompt_kb", title="  first request", unit="KB"),
        Row(key="block_ms", title="  a block with one call", unit="ms"),
        Row(key="search_ms", title="  a block with `skills search`", unit="ms"),
    ),
    rounds=1,
)
SERVERS, TOOLS = 40, 25
MESSAGES = [{"role": "user", "content": "Go on."}]
CALL = "```python:execute\nfrom lib.tools import s17_echo\nassert s17_echo(x=1) == '1'\n```\n"
SEARCH = "```bash:execute\nskills search close an issue of a repository\n```\n"


def _argv(name: str, count: int) -> list[str]:
    return [sys.executable, str(Path(mcp_server.__file__).resolve()), name, str(count)]


def _servers() -> int:
    return sum(_script(pid).endswith("mcp_server.py") for pid in descendants())


def _script(pid: int) -> str:
    """Return what a process runs: not a supervisor, which has the server's path further behind."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[1]
    except (OSError, IndexError):
        return ""


async def _second(quick: bool) -> Figures:
    from agentd import patch_openai_with_ptc

    count = 10 if quick else 40
    plain = ScriptedModel(["done"]).async_client()
    bare = await amedian_ms(
        lambda: plain.chat.completions.create(model="gpt-4o", messages=MESSAGES), count=count, warm=5
    )
    client = patch_openai_with_ptc(ScriptedModel(["done"]).async_client(), cwd="second")
    argv = _argv("mcp", 10)

    async def create() -> None:
        server: Any = {"name": "mcp", "command": argv[0], "args": argv[1:]}
        await client.chat.completions.create(model="gpt-4o", messages=MESSAGES, mcp_servers=[server])

    took = await amedian_ms(create, count=count, warm=5)
    processes = _servers()
    client.cleanup_ptc()
    return {"over_ms": took - bare, "processes": processes}


async def _many() -> Figures:
    from agentd import patch_openai_with_ptc

    commands = [(f"s{n}", _argv(f"s{n}", TOOLS)) for n in range(SERVERS)]
    servers = [{"name": name, "command": argv[0], "args": argv[1:]} for name, argv in commands]
    model = ScriptedModel(["done", CALL, "done", SEARCH, "done"])
    client = patch_openai_with_ptc(model.async_client(), cwd="many")
    began = time.monotonic()
    await client.chat.completions.create(model="gpt-4o", messages=MESSAGES, mcp_servers=servers)
    figures: Figures = {
        "start_ms": (model.first_request_s - began) * 1000,
        "prompt_kb": model.sent_bytes / 1000,
    }
    for key in ("block_ms", "search_ms"):
        answer = await client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
        (done,) = answer.agentd["executions"]
        assert done["exit_code"] == 0, done
        assert key == "block_ms" or re.search(r"issue", done["output"]), done
        figures[key] = done["wall_s"] * 1000
    client.cleanup_ptc()
    return figures


def ours(quick: bool) -> Figures:
    """The patched client, the servers as plain dicts."""

    async def measure() -> Figures:
        return {**await _second(quick), **await _many()}

    return asyncio.run(measure())


def theirs(quick: bool) -> Figures:
    """Not asked: its second call with a server never comes back."""
    return {}


def floor(quick: bool) -> Figures:
    """The MCP SDK alone: open and list."""
    from mcp import Client, StdioServerParameters

    async def one(name: str) -> None:
        argv = _argv(name, TOOLS)
        async with Client(StdioServerParameters(command=argv[0], args=argv[1:])) as client:
            assert len((await client.list_tools()).tools) == TOOLS

    async def measure() -> Figures:
        began = time.monotonic()
        await asyncio.gather(*(one(f"s{n}") for n in range(SERVERS)))
        return {"start_ms": (time.monotonic() - began) * 1000}

    return asyncio.run(measure())

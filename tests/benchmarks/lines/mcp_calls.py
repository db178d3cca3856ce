"""Calls of an MCP server's tool from a Python block: `echo` of a stdio server, imported from `lib.tools`.

Ours and theirs: the patched `AsyncOpenAI` client with `mcp_servers=[...]` and a model without latency, whose one
block times its own calls, sequentially (the median of one call), then from 8 threads. The third row is
the time from the moment that the model's block is complete (the last chunk of a streamed answer is handed
to the SDK) until the server reads the first call, the median of several conversations.
Floor: the MCP SDK alone, `call_tool` one after the other, and from 8 tasks."""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import mcp_server
from benchmarks.line import Figures, Line, Row
from benchmarks.scripted import ScriptedModel

LINE = Line(
    name="mcp_calls",
    rows=(
        Row(key="call_ms", title="MCP call from a Python block, p50", unit="ms", ratio=2, floor=1.6),
        Row(key="per_s", title="  from 8 threads", unit="calls/s", more=True, ratio=4),
        Row(key="first_ms", title="  from the block's end to the first call", unit="ms", limit=5),
    ),
)
CODE = """```python:execute
import json, statistics, threading, time
from lib.tools import mcp_echo

mcp_echo(x=7)
times = []
for i in range({sequential}):
    begin = time.perf_counter()
    mcp_echo(x=i)
    times.append(time.perf_counter() - begin)

def work():
    for i in range({each}):
        mcp_echo(x=i)

threads = [threading.Thread(target=work) for _ in range(8)]
begin = time.perf_counter()
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
took = time.perf_counter() - begin
with open({path!r}, "w") as file:
    json.dump([statistics.median(times) * 1000, 8 * {each} / took], file)
```
"""
ONE_CALL = """```python:execute
from lib.tools import mcp_echo
print(mcp_echo(x=1))
```
"""
REUSES_SERVERS = not sys.prefix.endswith("bench-0.8.6")  # there, a second call with the same server fails
MESSAGES = [{"role": "user", "content": "Go on."}]


def _command(log: Path | None = None) -> list[str]:
    server = str(Path(mcp_server.__file__).resolve())
    return [sys.executable, server, "mcp", "10", *([str(log)] if log else [])]


async def _measured(quick: bool, server_of: Callable[[list[str]], Any]) -> Figures:
    """The same code for both versions; only the server's description differs."""
    import os

    from agentd import patch_openai_with_ptc

    os.environ["AGENTD_LOG_DISABLE"] = "1"
    target = Path("figures.json").resolve()
    sequential, each = (150, 40) if quick else (1000, 200)
    model = ScriptedModel([CODE.format(sequential=sequential, each=each, path=str(target)), "done"])
    client = patch_openai_with_ptc(model.async_client(), cwd=".")
    servers = [server_of(_command())]
    await client.chat.completions.create(model="gpt-4o", messages=MESSAGES, mcp_servers=servers)
    p50, rate = json.loads(target.read_text())
    client.cleanup_ptc()
    return {"call_ms": p50, "per_s": rate, "first_ms": await _first(quick, server_of)}


async def _first(quick: bool, server_of: Callable[[list[str]], Any]) -> float | None:
    from agentd import patch_openai_with_ptc

    log = Path("calls.log").resolve()
    waits = []
    client = None
    for number in range(4 if quick else 12):
        if client is None or not REUSES_SERVERS:
            folder = Path(f"first-{number}")
            folder.mkdir()
            model = ScriptedModel([ONE_CALL, "done"])
            client = patch_openai_with_ptc(model.async_client(), cwd=str(folder))
            server = server_of(_command(log))
        seen = len(log.read_text().split()) if log.exists() else 0
        stream = await client.chat.completions.create(
            model="gpt-4o", messages=MESSAGES, mcp_servers=[server], stream=True
        )
        ends = [model.block_end_s async for _ in stream]
        arrived = [float(line) for line in log.read_text().split()][seen:]
        waits += [arrived[0] - max(end for end in ends if end < arrived[0])]
        if not REUSES_SERVERS:
            client.cleanup_ptc()
    assert client is not None
    client.cleanup_ptc()
    return statistics.median(waits[1:]) * 1000


def ours(quick: bool) -> Figures:
    """The server is given as a plain dict."""
    return asyncio.run(_measured(quick, lambda argv: {"name": "mcp", "command": argv[0], "args": argv[1:]}))


def theirs(quick: bool) -> Figures:
    """0.8.6 takes openai-agents' objects."""
    from agents.mcp.server import MCPServerStdio  # type: ignore[import-not-found,unused-ignore]

    def server_of(argv: list[str]) -> Any:
        return MCPServerStdio(
            params={"command": argv[0], "args": argv[1:]}, cache_tools_list=True, name="mcp"
        )

    return asyncio.run(_measured(quick, server_of))


def floor(quick: bool) -> Figures:
    """`mcp.Client` over the same server."""
    from mcp import Client, StdioServerParameters

    async def measure() -> Figures:
        argv = _command()
        sequential, each = (150, 40) if quick else (1000, 200)
        async with Client(StdioServerParameters(command=argv[0], args=argv[1:])) as client:
            times = []
            for number in range(sequential):
                begin = time.perf_counter()
                await client.call_tool("mcp_echo", {"x": number})
                times.append(time.perf_counter() - begin)

            async def work() -> None:
                for number in range(each):
                    await client.call_tool("mcp_echo", {"x": number})

            begin = time.perf_counter()
            await asyncio.gather(*(work() for _ in range(8)))
            rate = 8 * each / (time.perf_counter() - begin)
        return {"call_ms": statistics.median(times[5:]) * 1000, "per_s": rate}

    return asyncio.run(measure())

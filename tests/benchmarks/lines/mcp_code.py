"""`agentd mcp` under the MCP SDK's client: `run_python` of a block that calls one tool, over what the SDK's own server
takes for a tool that does nothing, on the same transport. The two are called in turn, and so is, for the first row, an
executor without a server in front of it: the part of the time that is the block's own.

Ours: as said. Theirs: nothing, as 0.8.6 had no server. Floor: nothing; the empty call is taken off."""

from __future__ import annotations

import asyncio
import contextlib
import re
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import mcp_server
from benchmarks.kit import scratch
from benchmarks.line import Figures, Line, Row

LINE = Line(
    name="mcp_code",
    rows=(
        Row(
            key="tool_ms",
            title="run_python with a call of a function, p50 over an empty call",
            unit="ms",
            limit=3,
        ),
        Row(key="upstream_ms", title="  of another MCP server's tool", unit="ms", limit=3),
        Row(key="handshake_ms", title="  ... with a client of 2025-11-25", unit="ms", limit=3),
        Row(key="http_ms", title="  ... over HTTP", unit="ms", limit=3),
        Row(key="http_handshake_ms", title="  ... over HTTP, 2025-11-25", unit="ms", limit=3),
        Row(key="fresh_ms", title="  with a fresh interpreter for each call (state=fresh)", unit="ms"),
        Row(key="alone_ms", title="  the same block of an executor alone, p50", unit="ms"),
        Row(key="alone_fresh_ms", title="  the same with a fresh interpreter", unit="ms"),
        Row(key="bash_ms", title="run_bash of `true`, p50 over an empty call", unit="ms"),
        Row(key="empty_ms", title="the SDK's empty call", unit="ms"),
        Row(key="empty_http_ms", title="  over HTTP", unit="ms"),
    ),
)
TOOL = """from agentd import tool
@tool
def double(x: int) -> int:
    "Double a number."
    return 2 * x
"""
EMPTY = """import sys
from mcp.server import MCPServer
server = MCPServer("empty")
@server.tool()
def empty() -> str:
    return ""
if len(sys.argv) == 1:
    server.run()
else:
    server.run(transport="streamable-http", port=int(sys.argv[1]))
"""
CALL_TOOL = "from lib.tools import double\nprint(double(x=21))"
CALL_UPSTREAM = "from lib.tools import mcp_echo\nprint(mcp_echo(x=42))"


def ours(quick: bool) -> Figures:
    """Both servers run side by side."""
    with scratch() as folder:
        return asyncio.run(_measure(folder, 40 if quick else 300))


async def _measure(folder: Path, count: int) -> Figures:
    (folder / "tool.py").write_text(TOOL)
    (folder / "empty.py").write_text(EMPTY)
    upstream = f"{sys.executable} {Path(mcp_server.__file__).resolve()} mcp 10"
    own = [sys.executable, "-m", "agentd", "mcp", "-e", "subprocess", "--cwd", str(folder / "w")]
    own += ["--tool", "tool.py", "--mcp", upstream]
    empty = [sys.executable, "empty.py"]
    figures: Figures = {}
    async with _stdio(own) as ours, _stdio(empty) as theirs, _alone(folder, "kept") as alone:
        figures["tool_ms"], figures["empty_ms"], figures["alone_ms"] = await _over(
            ours, theirs, CALL_TOOL, count, alone=alone
        )
    async with _stdio(own) as ours, _stdio(empty) as theirs:
        figures["upstream_ms"], *_ = await _over(ours, theirs, CALL_UPSTREAM, count)
        figures["bash_ms"], *_ = await _over(ours, theirs, "true", count, tool="run_bash")
    fresh = [*own, "-o", "state=fresh"]
    async with _stdio(fresh) as ours, _stdio(empty) as theirs, _alone(folder, "fresh") as alone:
        figures["fresh_ms"], _, figures["alone_fresh_ms"] = await _over(
            ours, theirs, CALL_TOOL, count, alone=alone
        )
    async with _stdio(own, mode="legacy") as ours, _stdio(empty, mode="legacy") as theirs:
        figures["handshake_ms"], *_ = await _over(ours, theirs, CALL_UPSTREAM, count)
    with _http([*own, "--http", "0"]) as url, _http([*empty, "0"]) as other:
        async with _client(url) as ours, _client(other) as theirs:
            figures["http_ms"], figures["empty_http_ms"], _ = await _over(ours, theirs, CALL_UPSTREAM, count)
        async with _client(url, mode="legacy") as ours, _client(other, mode="legacy") as theirs:
            figures["http_handshake_ms"], *_ = await _over(ours, theirs, CALL_UPSTREAM, count)
    return figures


async def _over(
    ours: Any,
    theirs: Any,
    code: str,
    count: int,
    *,
    tool: str = "run_python",
    alone: Callable[[], Awaitable[None]] | None = None,
) -> tuple[float, float, float]:
    """Return how much longer one of our calls takes than an empty one, and how long that and the block alone take."""

    async def block() -> None:
        result = await ours.call_tool(tool, {"code": code})
        if result.is_error:
            raise RuntimeError(result.content[0].text)

    async def empty() -> None:
        await theirs.call_tool("empty", {})

    calls = [block, empty, *([alone] if alone else [])]
    times: list[list[float]] = [[] for _ in calls]
    for number in range(count + 5):
        for call, took in zip(calls, times, strict=True):
            ms = await _timed(call)
            if number >= 5:
                took.append(ms)
    medians = list(map(statistics.median, times))
    return medians[0] - medians[1], medians[1], medians[-1]


@contextlib.asynccontextmanager
async def _alone(folder: Path, state: str) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Run the block of `CALL_TOOL` in this process's own executor."""
    from agentd import Session
    from agentd.types import PythonAction
    from agentd_mcp_server.given import GivenModel

    tools = [f"python:{folder / 'tool.py'}"]
    executor = ("subprocess", {"state": state})
    async with Session(GivenModel(), cwd=folder / state, executor=executor, tools=tools) as session:
        await session.prepare()
        action = PythonAction(code=CALL_TOOL)

        async def run() -> None:
            result = await session.executor.run(action)
            if result.exit_code:
                raise RuntimeError(result.output)

        yield run


async def _timed(call: Callable[[], Awaitable[None]]) -> float:
    begin = time.perf_counter()
    await call()
    return (time.perf_counter() - begin) * 1000


@contextlib.asynccontextmanager
async def _stdio(command: list[str], **options: Any) -> AsyncIterator[Any]:
    from mcp import Client, StdioServerParameters

    async with Client(StdioServerParameters(command=command[0], args=command[1:]), **options) as client:
        yield client


def _client(url: str, **options: Any) -> Any:
    from mcp import Client

    return Client(url, **options)


@contextlib.contextmanager
def _http(command: list[str]) -> Iterator[str]:
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            url = None
            while url is None:
                line = process.stderr.readline()
                url = re.search(r"http://[\w.:]+", line)
                if not line:
                    raise RuntimeError("a server has not started")
            yield f"{url[0]}/mcp"
        finally:
            process.terminate()
            process.stderr.close()


def theirs(quick: bool) -> Figures:
    """Nothing of this kind."""
    return {}


def floor(quick: bool) -> Figures:
    """Nothing."""
    return {}

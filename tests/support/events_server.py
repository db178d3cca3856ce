"""An MCP server of the SDK's over stdio that has MCP Events (SEP-3415), delivered by polling.

    python events_server.py FILE [ids] [bare]

Each line of FILE is an event of the type `line.added`, its number the cursor; `arguments.prefix` says which. It keeps
no more than the newest 1,000, and gives 5 at once. With `bare`, events have no cursors of their own.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import anyio
import mcp_types as types
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server

KEPT, AT_ONCE = 1000, 5


class PollParams(types.RequestParams):
    name: str
    arguments: dict[str, Any] = {}  # noqa: RUF012 - pydantic copies it
    cursor: str | None = None
    max_events: int = AT_ONCE


async def poll(ctx: Any, params: PollParams) -> dict[str, Any]:
    if params.name != "line.added":
        raise types_error(f"Unknown event: {params.name}")
    lines = Path(sys.argv[1]).read_text().splitlines()
    answer: dict[str, Any] = {
        "resultType": "complete",
        "truncated": False,
        "hasMore": False,
        "nextPollMs": 20,
    }
    if params.cursor is None:
        return {**answer, "events": [], "cursor": str(len(lines))}
    begin = max(int(params.cursor), len(lines) - KEPT)
    end = min(begin + min(AT_ONCE, params.max_events), len(lines))
    events = [
        {
            "eventId": f"line-{number}",
            "name": params.name,
            "timestamp": "2026-11-30T12:00:00Z",
            "data": {"line": lines[number]},
            **({} if "bare" in sys.argv else {"cursor": str(number + 1)}),
        }
        for number in range(begin, end)
        if lines[number].startswith(params.arguments.get("prefix", ""))
    ]
    return {
        **answer,
        "events": events,
        "cursor": str(end),
        "hasMore": end < len(lines),
        "truncated": begin > int(params.cursor),
    }


def types_error(text: str) -> Exception:
    from mcp import MCPError

    return MCPError(types.INVALID_PARAMS, text)


async def main() -> None:
    server: Server[Any] = Server("events")
    server.extensions = {"io.modelcontextprotocol/events": {}}
    server.add_request_handler("events/poll", PollParams, poll)
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


if __name__ == "__main__":
    Path(f"{sys.argv[1]}.pid").write_text(str(os.getpid()))
    anyio.run(main)

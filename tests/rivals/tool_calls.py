"""Rows of tool calls from code, and of whole agents. Standard library only."""

from __future__ import annotations

import os
import statistics

from rivals.row import Figure, Figures, Scale, median_ms, new_folder, one_more_ms, opened, row
from rivals.side import Side

__all__: list[str] = []


@row("call", Figure("call_ms", "tool call from code", "ms"))
async def call(side: Side, scale: Scale) -> Figures:
    """What one more call in a block costs."""
    async with opened(side) as box:
        return {"call_ms": await one_more_ms(box, side.calls, scale.of(1000, 300), scale)}


@row("at_once", Figure("calls_per_s", "tool calls, 8 at once", "calls/s", True))
async def calls_at_once(side: Side, scale: Scale) -> Figures:
    """Eight workers in a block."""
    async with opened(side) as box:
        each_ms = await one_more_ms(box, side.calls_at_once, scale.of(100, 25), scale)
    if each_ms <= 0:  # a rate of infinity would be first
        raise RuntimeError("a block with many calls took no longer than one with few")
    return {"calls_per_s": 8 * 1000 / each_ms}


@row("big_call", Figure("big_call_ms", "tool call, 1 MB there and back", "ms"))
async def big_call(side: Side, scale: Scale) -> Figures:
    """1 MB there and back."""
    async with opened(side) as box:
        return {"big_call_ms": await one_more_ms(box, side.big_calls, scale.of(20, 4), scale)}


@row(
    "mcp",
    Figure("mcp_call_ms", "call of a real MCP server from code", "ms"),
    scaled="10 calls in a block, not 100",
    within_s=(60.0, 20.0),
)
async def mcp_call(side: Side, scale: Scale) -> Figures:
    """`get_current_time` of the server mcp-server-time, over its standard input and output."""
    argv = [os.environ["RIVALS_MCP_PYTHON"], "-m", "mcp_server_time"]
    box = await side.open_with_mcp(new_folder("mcp"), argv)
    try:
        return {"mcp_call_ms": await one_more_ms(box, side.mcp_calls, scale.of(100, 10), scale)}
    finally:
        await box.close()


@row(
    "turn",
    Figure("turn_ms", "a whole agent: one tool call, then the answer", "ms"),
    Figure("turn_kb", "bytes to the model for it, ten tools", "KB"),
)
async def turn(side: Side, scale: Scale) -> Figures:
    """An agent with ten tools: a tool call through code (or as JSON), then the answer."""
    run = await side.turn(new_folder("turn"))
    sent: list[float] = []

    async def once() -> None:
        sent.append((await run()).sent_bytes / 1000)

    took = await median_ms(once, count=scale.of(40, 10), at_most_s=scale.seconds, warm=scale.of(2, 1))
    return {"turn_ms": took, "turn_kb": statistics.median(sent)}

"""A server whose lists are long, have things twice, under odd names, or have no end (`endless` as an argument)."""

from __future__ import annotations

import sys
from typing import Any

import anyio
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp_types import (
    CallToolResult,
    GetPromptResult,
    ListPromptsResult,
    ListToolsResult,
    Prompt,
    PromptMessage,
    TextContent,
    Tool,
)

PROMPTS = 12_000
ODD = ("a name/with ☃ and\nlines", "search_tools", "search_tools", "", "x" * 5000, "__init__", "class")


async def list_tools(_: Any, params: Any) -> ListToolsResult:
    """Odd names, one of them twice, one of them agentd's."""
    tools = [Tool(name=name, description="odd", input_schema={"type": "object"}) for name in ODD]
    return ListToolsResult(tools=tools)


async def call_tool(_: Any, params: Any) -> CallToolResult:
    """Say what was called."""
    return CallToolResult(content=[TextContent(text=f"called {params.name}")])


async def list_prompts(_: Any, params: Any) -> ListPromptsResult:
    """Many, on many pages; each twice."""
    start = int(params.cursor or 0) if params is not None else 0
    prompts = [Prompt(name=f"prompt {number // 2}") for number in range(start, start + 2000)]
    is_last = start + 2000 >= 2 * PROMPTS and "endless" not in sys.argv
    return ListPromptsResult(prompts=prompts, next_cursor=None if is_last else str(start + 2000))


async def get_prompt(_: Any, params: Any) -> GetPromptResult:
    """Say what was asked for."""
    content = TextContent(text=params.name)
    return GetPromptResult(messages=[PromptMessage(role="user", content=content)])


async def main() -> None:
    """Serve."""
    server = Server(
        "hostile",
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_prompts=list_prompts,
        on_get_prompt=get_prompt,
    )
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


anyio.run(main)

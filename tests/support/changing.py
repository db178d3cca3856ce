"""An MCP server of the 2026-07-28 revision whose resources change on demand.

    python changing.py        over stdio

Tools: `touch` says that a resource has changed, `end_streams` ends the streams of those who listen, in order. A
URI that begins with `none:` is refused, one with `deaf:` is acknowledged without it.
"""

from __future__ import annotations

from typing import Any

import anyio
import mcp_types as types
from mcp import MCPError
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ResourceUpdated

NONE: dict[str, Any] = {"type": "object", "properties": {}}
URI: dict[str, Any] = {"type": "object", "properties": {"uri": {"type": "string"}}, "required": ["uri"]}


def make_server(asked: list[list[str]] | None = None) -> Server[Any]:
    """Return a server; `asked` gets the URIs of each stream that is asked for."""
    bus = InMemorySubscriptionBus()
    streams = ListenHandler(bus)

    async def listen(ctx: Any, params: Any) -> Any:
        uris = list(params.notifications.resource_subscriptions or ())
        if asked is not None:
            asked.append(uris)
        if any(uri.startswith("none:") for uri in uris):
            raise MCPError(types.INVALID_PARAMS, "no such resource")
        heard = [uri for uri in uris if not uri.startswith("deaf:")]
        changed = params.notifications.model_copy(update={"resource_subscriptions": heard or None})
        return await streams(ctx, params.model_copy(update={"notifications": changed}))

    async def list_tools(ctx: Any, params: Any) -> types.ListToolsResult:
        tools = [
            types.Tool(name="touch", input_schema=URI),
            types.Tool(name="end_streams", input_schema=NONE),
        ]
        return types.ListToolsResult(tools=tools)

    async def call_tool(ctx: Any, params: Any) -> types.CallToolResult:
        if params.name == "touch":
            await bus.publish(ResourceUpdated(uri=params.arguments["uri"]))
        else:
            streams.close()
        return types.CallToolResult(content=[types.TextContent(text="done")])

    async def read(ctx: Any, params: Any) -> types.ReadResourceResult:
        return types.ReadResourceResult(contents=[types.TextResourceContents(uri=params.uri, text="text")])

    return Server(
        "changing",
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_read_resource=read,
        on_subscriptions_listen=listen,
    )


async def _serve() -> None:
    server = make_server()
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


if __name__ == "__main__":
    anyio.run(_serve)

"""An MCP server of the SDK's over stdio: it speaks the 2026-07-28 revision."""

from __future__ import annotations

from typing import Annotated

from mcp.server.mcpserver import Context, Elicit, MCPServer, Resolve
from pydantic import BaseModel

server = MCPServer("modern")


class City(BaseModel):
    """What is asked for."""

    city: str


async def where() -> Elicit[City]:
    """Ask for the city."""
    return Elicit("Where?", City)


@server.tool(structured_output=False)
def echo(text: str) -> str:
    """Give the text back."""
    return text


@server.tool()
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@server.tool()
async def travel(place: Annotated[City, Resolve(where)]) -> str:
    """Go where the person wants to."""
    return f"in {place.city}"


@server.tool()
async def steps(ctx: Context) -> str:
    """Report progress."""
    await ctx.report_progress(1, 2, "half")
    return "done"


if __name__ == "__main__":
    server.run("stdio")

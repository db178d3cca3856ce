"""fastmcp's client drives `agentd mcp`: run by the interpreter of an environment that has fastmcp alone.

    fastmcp_client.py WORKSPACE MODE URL                   over HTTP
    fastmcp_client.py WORKSPACE MODE COMMAND ARGUMENT...   over standard input and output

MODE is the SDK's: `auto` for the newest revision, `legacy` for the one with a handshake. Prints what it has seen, as
JSON.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
from pathlib import Path
from typing import Any

from fastmcp import Client
from fastmcp.client.transports import StdioTransport

RED = Path(__file__).parents[1] / "support" / "mcp_serving.py"
LONG = "echo $BASHPID > new; mv new pid; sleep 600"


async def walk(client: Client[Any], workspace: Path, picture: str) -> dict[str, Any]:
    """Use every tool, and return what came of it."""

    async def call(tool: str, **given: Any) -> Any:
        return await client.call_tool(tool, given, raise_on_error=False)

    seen: dict[str, Any] = {"tools": sorted(tool.name for tool in await client.list_tools())}
    made = await call("create_file", path="a.txt", content="one")  # which the policy asks about
    seen["created"] = [made.is_error, made.content[0].text]
    denied = await call("create_file", path="b.txt", content="two")
    seen["denied"] = [denied.is_error, "ToolDenied" in denied.content[0].text or denied.content[0].text]
    seen["listed"] = (await call("list_files")).content[0].text
    await call("checkpoint", label="one")
    await call("run_bash", code="x=2; echo two > a.txt")
    await call("rewind", checkpoint="one")
    ran = await call("run_bash", code="cat a.txt; echo [$x]")
    seen["structured"] = ran.structured_content
    seen["data"] = getattr(ran.data, "output", None) or ran.data["output"]
    seen["found"] = (await call("search_tools", query="costs")).content[0].text
    code = "from lib.tools import price\nprint(price(name='tea'))"
    seen["nested"] = (await call("run_python", code=code)).content[0].text
    failed = await call("run_bash", code="exit 3")
    seen["failed"] = [failed.is_error, failed.structured_content["exit_code"]]
    shown = await call("run_python", code=picture)
    seen["picture"] = [
        shown.content[1].mimeType,
        base64.b64decode(shown.content[1].data)[:4].decode("latin-1"),
    ]
    seen["progress"] = await progress(client, workspace)
    seen["cancelled"] = await cancelled(client, workspace)
    return seen


async def progress(client: Client[Any], workspace: Path) -> list[str | None]:
    """Return what is heard of a block that ends when something was heard."""
    heard: list[str | None] = []

    async def hear(done: float, total: float | None, message: str | None) -> None:
        heard.append(message)
        next(workspace.glob("**/here")).with_name("go").touch()

    code = "touch here; echo begun; until [ -e go ]; do sleep 0.05; done"
    await client.call_tool("run_bash", {"code": code}, progress_handler=hear)
    return heard


async def cancelled(client: Client[Any], workspace: Path) -> bool:
    """Cancel a call; return True if its code has ended once the next one has."""
    call = asyncio.create_task(client.call_tool("run_bash", {"code": LONG}))
    while not (found := list(workspace.glob("**/pid"))):
        await asyncio.sleep(0.05)
    call.cancel()
    await asyncio.wait([call])
    await client.call_tool("run_bash", {"code": "true"})
    try:
        os.kill(int(found[0].read_text()), 0)
    except ProcessLookupError:
        return True
    return False


async def main() -> None:
    """Connect, walk, print."""
    workspace, mode, first, *more = sys.argv[1:]
    asked: list[str] = []

    async def answer(message: str, kind: Any, params: Any, context: Any) -> Any:
        asked.append(message.splitlines()[0])
        return {"answer": "deny" if "b.txt" in message else "allow once"}

    transport = StdioTransport(command=first, args=more) if more else first
    text = RED.read_text()
    picture = text.partition('RED: Final = """')[2].partition('"""')[0].encode().decode("unicode_escape")
    async with Client(transport, mode=mode, elicitation_handler=answer) as client:
        seen = await walk(client, Path(workspace), picture)
    print(json.dumps({**seen, "asked": asked}))


if __name__ == "__main__":
    asyncio.run(main())

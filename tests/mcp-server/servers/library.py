"""A server with everything that a client may be offered. Its first argument is a folder in which it leaves traces."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import anyio
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.prompts.base import UserMessage
from mcp_types import (
    CallToolResult,
    Completion,
    CreateMessageRequest,
    CreateMessageRequestParams,
    ElicitRequest,
    ElicitRequestFormParams,
    EmptyResult,
    ImageContent,
    InputRequest,
    InputRequiredResult,
    ListRootsRequest,
    ResourceUpdatedNotification,
    ResourceUpdatedNotificationParams,
    SamplingMessage,
    SetLevelRequestParams,
    SubscribeRequestParams,
    TextContent,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import BaseModel

FOLDER = Path(sys.argv[1])
server = MCPServer("library")


class Name(BaseModel):
    """What is asked for."""

    name: str


FORM = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


def is_newest(ctx: Context) -> bool:
    """Tell how the one that calls speaks."""
    return ctx.request_context.protocol_version in MODERN_PROTOCOL_VERSIONS


@server.tool(title="A picture", meta={"shelf": 3})
def picture() -> CallToolResult:
    """A result with all that one may have."""
    return CallToolResult(
        content=[TextContent(text="a red dot"), ImageContent(data="aGVsbG8=", mime_type="image/png")],
        structured_content={"dots": 1},
        _meta={"library/copies": 2},
    )


@server.tool()
def pid() -> int:
    """The process of this server."""
    return os.getpid()


@server.tool()
def shelves() -> int:
    """How many shelves there are."""
    return 3


@server.tool()
def run_bash() -> str:
    """A name that agentd has, too."""
    return "not bash"


@server.tool()
async def greet(ctx: Context) -> str | InputRequiredResult:
    """Ask the person for a name, the model for a word, and the client for its directories."""
    if not is_newest(ctx):
        asked = await ctx.elicit("Who are you?", Name)
        name = asked.data.name if asked.action == "accept" else asked.action
        said = await ctx.session.create_message(  # type: ignore[deprecated]
            messages=[SamplingMessage(role="user", content=TextContent(text="a word?"))],
            max_tokens=5,
            related_request_id=ctx.request_id,
        )
        roots = await ctx.session.list_roots()  # type: ignore[deprecated]
        return told(name, said, roots)
    given: Any = ctx.input_responses or {}
    if given.keys() >= {"name", "word", "roots"}:
        return told((given["name"].content or {}).get("name"), given["word"], given["roots"])
    message = SamplingMessage(role="user", content=TextContent(text="a word?"))
    wanted: dict[str, InputRequest] = {
        "name": ElicitRequest(params=ElicitRequestFormParams(message="Who are you?", requested_schema=FORM)),
        "word": CreateMessageRequest(params=CreateMessageRequestParams(messages=[message], max_tokens=5)),
        "roots": ListRootsRequest(),
    }
    return InputRequiredResult(input_requests=wanted, request_state="greeting")


def told(name: Any, said: Any, roots: Any) -> str:
    """Return what came of it."""
    return f"{name} {said.content.text} {[str(root.uri) for root in roots.roots]}"


@server.tool()
async def busy(ctx: Context) -> str:
    """Report and log while it works."""
    for done in (1, 2, 3):
        await ctx.report_progress(done, 3, f"step {done}")
        await ctx.info(f"at step {done}")  # type: ignore[deprecated]
    return "over"


@server.tool()
async def slow() -> str:
    """Work until it is cancelled, and leave traces."""
    (FOLDER / "begun").touch()
    try:
        await anyio.sleep_forever()
    finally:
        (FOLDER / "cancelled").touch()
    return ""


@server.tool()
def die() -> str:
    """End the server."""
    os._exit(3)


@server.tool()
async def grow(ctx: Context) -> str:
    """Have one more tool, prompt and resource from now on, and change one."""

    def newcomer() -> str:
        """Newly here."""
        return "hello from a newcomer"

    server.add_tool(newcomer)
    server.add_prompt(server_prompt("newcomer"))
    if is_newest(ctx):
        await ctx.notify_tools_changed()
        await ctx.notify_prompts_changed()
        await ctx.notify_resource_updated("library://open/1")
    else:
        await ctx.session.send_tool_list_changed()
        await ctx.session.send_prompt_list_changed()
        params = ResourceUpdatedNotificationParams(uri="library://open/1")
        await ctx.session.send_notification(ResourceUpdatedNotification(params=params))
    return "grown"


def server_prompt(name: str) -> Any:
    """Return a prompt of this name."""
    from mcp.server.mcpserver.prompts.base import Prompt

    return Prompt.from_function(lambda: f"this is {name}", name=name, description="said")


@server.prompt()
def review(title: str) -> list[UserMessage]:
    """Review a book."""
    return [UserMessage(content=TextContent(text=f"Review {title}."))]


@server.prompt()
async def shared(ctx: Context) -> str | InputRequiredResult:
    """A prompt that another server has, too; it asks something first, where it can."""
    if not is_newest(ctx):
        return "from the library"
    given: Any = ctx.input_responses or {}
    if "name" in given:
        return f"from the library, for {given['name'].content['name']}"
    form = ElicitRequestFormParams(message="Who are you?", requested_schema=FORM)
    return InputRequiredResult(input_requests={"name": ElicitRequest(params=form)})


@server.resource("library://open/1", mime_type="text/plain")
def book() -> str:
    """A book."""
    return "a book"


@server.resource("library://shelf/{name}")
def shelf(name: str) -> str:
    """A shelf."""
    return f"the shelf {name}"


@server.completion()
async def complete(ref: Any, argument: Any, context: Any) -> Completion:
    """Complete titles."""
    titles = [title for title in ("dune", "dubliners", "emma") if title.startswith(argument.value)]
    return Completion(values=titles, total=len(titles))


async def accept(_: Any, params: Any) -> EmptyResult:
    """Take a subscription, or a level."""
    return EmptyResult()


async def level(_: Any, params: SetLevelRequestParams) -> EmptyResult:
    """Note the level."""
    (FOLDER / "level").write_text(params.level)
    return EmptyResult()


lowlevel = server._lowlevel_server
lowlevel.add_request_handler("resources/subscribe", SubscribeRequestParams, accept)
lowlevel.add_request_handler("resources/unsubscribe", SubscribeRequestParams, accept)
lowlevel.add_request_handler("logging/setLevel", SetLevelRequestParams, level)

if __name__ == "__main__":
    server.run()

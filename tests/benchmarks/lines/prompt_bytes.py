"""What is sent to the model for one program: six calls of tools of a server that has 30, one after the other.

As code (PTC), the model writes one block that makes all six calls, then answers; with JSON tools it makes
one call in each of six rounds, then answers. Measured is the size of all request bodies of the conversation:
the system prompt, the tools' descriptions and all messages.
Ours and theirs: the same conversations through the patched clients.
Floor: none."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import mcp_server
from benchmarks.line import Figures, Line, Row
from benchmarks.scripted import ScriptedModel, call

LINE = Line(
    name="prompt_bytes",
    rows=(
        Row(
            key="share",
            title="bytes sent for six calls, 30 tools: as code / as JSON tools",
            unit="x",
            limit=0.5,
        ),
        Row(key="ptc_kb", title="  as code", unit="KB"),
        Row(key="json_kb", title="  as JSON tools", unit="KB"),
    ),
    rounds=1,
)
ARGUMENTS = {"owner": "ada", "repository": "engine"}
NAMES = [f"tracker_{verb}_issue" for verb in ("create", "list", "update")]
NAMES += [f"tracker_{verb}_branch" for verb in ("create", "list", "update")]
PROGRAM = "\n".join(f"print({name}(owner='ada', repository='engine'))" for name in NAMES)
BLOCK = f"```python:execute\nfrom lib.tools import {', '.join(NAMES)}\n{PROGRAM}\n```\n"
MESSAGES = [{"role": "user", "content": "Go on."}]


async def _measured(server_of: Callable[[list[str]], Any]) -> Figures:
    """The same code for both versions; only the server's description differs."""
    import os

    from agentd import patch_openai_with_mcp, patch_openai_with_ptc

    os.environ["AGENTD_LOG_DISABLE"] = "1"
    argv = [sys.executable, str(Path(mcp_server.__file__).resolve()), "tracker", "30"]
    ptc = ScriptedModel([BLOCK, "done"])
    client = patch_openai_with_ptc(ptc.async_client(), cwd=".")
    await client.chat.completions.create(model="gpt-4o", messages=MESSAGES, mcp_servers=[server_of(argv)])
    client.cleanup_ptc()
    tools = ScriptedModel([*([call(name, **ARGUMENTS)] for name in NAMES), "done"])
    client = patch_openai_with_mcp(tools.async_client())
    await client.chat.completions.create(model="gpt-4o", messages=MESSAGES, mcp_servers=[server_of(argv)])
    assert (ptc.requests, tools.requests) == (2, len(NAMES) + 1), (ptc.requests, tools.requests)
    return {
        "share": ptc.sent_bytes / tools.sent_bytes,
        "ptc_kb": ptc.sent_bytes / 1000,
        "json_kb": tools.sent_bytes / 1000,
    }


def ours(quick: bool) -> Figures:
    """The server is given as a plain dict."""
    return asyncio.run(_measured(lambda argv: {"name": "tracker", "command": argv[0], "args": argv[1:]}))


def theirs(quick: bool) -> Figures:
    """0.8.6 takes openai-agents' objects; its JSON loop leaves the tools out after the first round."""
    from agents.mcp.server import MCPServerStdio  # type: ignore[import-not-found,unused-ignore]

    def server_of(argv: list[str]) -> Any:
        params = {"command": argv[0], "args": argv[1:]}
        return MCPServerStdio(params=params, cache_tools_list=True, name="tracker")

    return asyncio.run(_measured(server_of))


def floor(quick: bool) -> Figures:
    """There is none: nothing less says what tools there are."""
    return {}

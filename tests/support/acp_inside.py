"""The agent of `agentd acp` in this process, and the SDK's own client at the other end of its pipes: quick to start."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from acp import PROTOCOL_VERSION
from acp.core import AgentSideConnection, ClientSideConnection
from acp_editor import AcpEditor
from agentd_acp import command
from agentd_acp.agent import EditorAgent
from agentd_acp.wire import MessageWire
from agentd_cli.standard_streams import StandardInput, StandardOutput

__all__ = ["connected"]

ARGUMENTS = ("--executor", "subprocess", "--model", "m", "--base-url", "http://127.0.0.1:9/v1")


@asynccontextmanager
async def connected() -> AsyncIterator[AcpEditor]:
    """Serve an editor, with the state folder that the environment names. The model cannot be reached."""
    from_editor, to_agent = os.pipe()
    from_agent, to_editor = os.pipe()
    wire = MessageWire(StandardInput(from_editor), StandardOutput(to_editor))
    settings = command._settings(command.acp.make_context("acp", [*ARGUMENTS]))
    agent = EditorAgent(settings, wire, "1")
    connection = AgentSideConnection(agent, wire, listening=False, use_unstable_protocol=True)
    serving = [asyncio.create_task(wire.write_all()), asyncio.create_task(connection.listen())]
    editor = AcpEditor()
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 26)
    # The transports close these two.
    into, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(from_agent, "rb", 0)
    )
    out, protocol = await loop.connect_write_pipe(
        asyncio.streams.FlowControlMixin, os.fdopen(to_agent, "wb", 0)
    )
    writer = asyncio.StreamWriter(out, protocol, None, loop)
    client = ClientSideConnection(editor, writer, reader, use_unstable_protocol=True)
    editor.agent = client
    try:
        await client.initialize(protocol_version=PROTOCOL_VERSION)
        yield editor
    finally:
        await agent.aclose()
        await client.close()
        out.close()
        into.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        await connection.close()
        os.close(from_editor)
        os.close(to_editor)

"""openai-agents: its sandbox agents' local backend, `UnixLocalSandboxClient`; tools are called as JSON."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from rivals.models import counted
from rivals.side import Box, NotThere, Said, Side, Turn

__all__ = ["SIDES"]


class LocalBox(Box):
    """A sandbox session; each command is a process."""

    def __init__(self, client: Any, session: Any) -> None:
        self._client = client
        self._session = session

    async def python(self, code: str, *, kept: bool = False, timeout_s: float | None = None) -> Said:
        """An interpreter for each block."""
        if kept:
            raise NotThere("each block is a process of its own")
        return await self._exec(sys.executable, "-c", code, shell=False, timeout=timeout_s)

    async def bash(self, command: str, *, timeout_s: float | None = None) -> Said:
        """`sh -lc`, as its shell tool has it."""
        return await self._exec(command, timeout=timeout_s)

    async def _exec(self, *command: str, timeout: float | None, **more: Any) -> Said:
        from agents.sandbox.errors import ExecTimeoutError

        try:
            done = await self._session.exec(*command, timeout=timeout, **more)
        except ExecTimeoutError as error:
            raise TimeoutError(str(error)) from None
        text = (done.stdout + done.stderr).decode("utf-8", "replace")
        return Said(text, done.exit_code == 0)

    async def close(self) -> None:
        """Remove its folder."""
        await self._session.aclose()
        await self._client.delete(self._session)


class OpenaiAgents(Side):
    """Processes of a session's folder."""

    name = "openai-agents"
    title = "openai-agents, local"
    isolation = "none on Linux: child processes"
    language = "CPython and sh"
    packages = ("openai-agents",)
    environment = "openai-agents"
    requirements = ("openai-agents", "numpy")
    modules = "agents"

    async def prepare(self) -> None:
        """Import it; it would send traces to its maker."""
        import agents
        import agents.sandbox.sandboxes.unix_local

        agents.set_tracing_disabled(True)

    async def open(self, folder: Path) -> LocalBox:
        """A session; it makes a folder of its own."""
        from agents.sandbox.sandboxes.unix_local import UnixLocalSandboxClient, UnixLocalSandboxClientOptions

        client = UnixLocalSandboxClient()
        session = await client.create(options=UnixLocalSandboxClientOptions())
        await session.start()
        return LocalBox(client, session)

    def calls(self, count: int) -> str:
        """Code has no tools."""
        raise NotThere("code calls no tools: they are called as JSON")

    calls_at_once = big_calls = calls

    async def turn(self, folder: Path) -> Callable[[], Awaitable[Turn]]:
        """A JSON tool call, then the answer."""
        from agents import Agent, OpenAIChatCompletionsModel, Runner, function_tool
        from benchmarks.scripted import ScriptedModel

        from rivals.ten_tools import TEN

        script = [[("echo", {"x": 7})], "done"]
        model = ScriptedModel(script)
        chat = OpenAIChatCompletionsModel("gpt-4o", model.async_client())
        agent = Agent(name="agent", model=chat, tools=[function_tool(each) for each in TEN])

        async def run() -> None:
            result = await Runner.run(agent, "Call echo with 7.")
            if result.final_output != "done":
                raise RuntimeError(f"the turn ended otherwise: {result.final_output!r}")

        return counted(model, run, script)


SIDES = (OpenaiAgents(),)

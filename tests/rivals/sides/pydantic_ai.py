"""pydantic-ai with its code mode: blocks run in Monty's synchronous pool, whole turns through `CodeMode`."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from rivals.models import counted
from rivals.side import Box, NotThere, Said, Side, Turn

__all__ = ["SIDES"]

CALLS_AT_ONCE = """import asyncio

async def work():
    for i in range({each}):
        await anyhow(x=i)

await asyncio.gather(*(work() for _ in range(8)))
"""
NEVER = (
    1_000_000_000  # `max_suspensions`, which has a default of 1,000: a long block of calls would end there
)


class MontyBox(Box):
    """A lasting session of a pool, and short ones for fresh blocks."""

    def __init__(self, side: PydanticAi, folder: Path) -> None:
        from pydantic_monty import MountDir

        self._side = side
        self._mount = MountDir(host_path=folder, virtual_path="/work", mode="read-write")
        self._kept: Any = None

    async def python(self, code: str, *, kept: bool = False, timeout_s: float | None = None) -> Said:
        """Feed it to a session of the pool: a new one, or the lasting one."""
        if "await " in code:
            return await self._awaited(code)
        if not kept:
            with self._side.pool.checkout(limits=_limits(timeout_s)) as session:
                return self._feed(session, code)
        if self._kept is None:
            self._kept = self._side.pool.checkout(limits=_limits(None))
            self._kept.__enter__()
        return self._feed(self._kept, code)

    def _feed(self, session: Any, code: str) -> Said:
        from pydantic_monty import MontyRuntimeError, MontySyntaxError

        from rivals.ten_tools import echo, same

        begin = time.perf_counter()
        first: list[float] = []
        parts: list[str] = []

        def printed(_: str, text: str) -> None:
            if not first:
                first.append(time.perf_counter() - begin)
            parts.append(text)

        try:
            session.feed_run(
                code,
                external_lookup={"echo": echo, "same": same},
                print_callback=printed,
                mount=self._mount,
            )
        except (MontyRuntimeError, MontySyntaxError) as error:
            if isinstance(error.exception(), TimeoutError):
                raise TimeoutError(str(error)) from None
            return Said("".join(parts) + error.display("type-msg"), False)
        return Said("".join(parts), True, first[0] if first else None)

    async def _awaited(self, code: str) -> Said:
        """With tools that are coroutines, as code that gathers its calls needs them."""
        from pydantic_monty import CollectString, MontyError

        async def anyhow(x: int) -> int:
            return x

        async def nap() -> None:
            await asyncio.sleep(0.1)

        out = CollectString(max_bytes=None)
        async with self._side.async_pool.checkout(limits=_limits(None)) as session:
            try:
                await session.feed_run(
                    code, external_lookup={"anyhow": anyhow, "nap": nap}, print_callback=out
                )
            except MontyError as error:
                return Said(str(error), False)
        return Said(out.output)

    async def close(self) -> None:
        """Give the session back."""
        if self._kept is not None:
            self._kept.__exit__(None, None, None)
        self._mount.close()


def _limits(timeout_s: float | None) -> Any:
    from pydantic_monty import ResourceLimits

    limits = ResourceLimits(max_suspensions=NEVER)
    if timeout_s is not None:
        limits["max_feed_duration_secs"] = timeout_s
    return limits


class AgentBox(Box):
    """An agent with code mode and an MCP server, whose model answers with the block."""

    def __init__(self, model: Any, agent: Any, stack: contextlib.AsyncExitStack) -> None:
        self._model = model
        self._agent = agent
        self._stack = stack

    async def python(self, code: str, *, kept: bool = False, timeout_s: float | None = None) -> Said:
        """A run of the agent: the block, then an answer."""
        self._model.say([("run_code", {"code": code})], "done")
        result = await self._agent.run("Go on.")
        if self._model.left:
            return Said("the agent ended before its model did", False)
        return Said(_returned(result))

    async def close(self) -> None:
        """End the server."""
        await self._stack.aclose()


def _returned(result: Any) -> str:
    from pydantic_ai.messages import RetryPromptPart, ToolReturnPart

    for message in result.all_messages():
        for part in message.parts:
            if isinstance(part, RetryPromptPart):
                raise RuntimeError(str(part.content)[:300])
            if isinstance(part, ToolReturnPart):
                return str(part.content)
    raise RuntimeError("no code was run")


class PydanticAi(Side):
    """Monty behind pydantic-ai."""

    name = "pydantic-ai"
    title = "pydantic-ai, code mode"
    isolation = "interpreter in a process of its own (Monty)"
    language = "a part of Python (Monty)"
    packages = ("pydantic-ai-slim", "pydantic-ai-harness", "pydantic-monty")
    environment = "pydantic-ai"
    requirements = ("pydantic-ai-slim[openai,mcp]", "pydantic-ai-harness[codemode]")
    modules = "pydantic_ai, pydantic_ai_harness"
    is_cpython = False
    sleeping = "await nap()"
    endless = "while True:\n    pass\n"
    mcp_call = "await get_current_time(timezone='UTC')"

    async def prepare(self) -> None:
        """A pool with a worker that is warm, as a program has it."""
        import pydantic_ai.models.openai
        import pydantic_ai_harness
        import pydantic_monty

        del pydantic_ai, pydantic_ai_harness
        self._stack = contextlib.AsyncExitStack()
        pool = pydantic_monty.Monty(max_processes=256)
        self.pool = self._stack.enter_context(pool)
        async_pool = pydantic_monty.AsyncMonty(max_processes=256)
        self.async_pool = await self._stack.enter_async_context(async_pool)

    async def unprepare(self) -> None:
        """End the pools."""
        await self._stack.aclose()

    async def open(self, folder: Path) -> MontyBox:
        """Sessions of the pool, with the folder at /work."""
        return MontyBox(self, folder)

    def calls_at_once(self, each: int) -> str:
        """Gathered: it has no threads."""
        return CALLS_AT_ONCE.format(each=each)

    def _agent(self, model: Any, **more: Any) -> Any:
        from pydantic_ai import Agent
        from pydantic_ai.models.openai import OpenAIChatModel
        from pydantic_ai.providers.openai import OpenAIProvider
        from pydantic_ai_harness import CodeMode

        chat = OpenAIChatModel("gpt-4o", provider=OpenAIProvider(openai_client=model.async_client()))
        code = CodeMode(max_tool_calls=NEVER, resource_limits={"max_suspensions": NEVER})
        return Agent(chat, capabilities=[code], **more)

    async def turn(self, folder: Path) -> Callable[[], Awaitable[Turn]]:
        """One `run_code`, then the answer."""
        from benchmarks.scripted import ScriptedModel

        from rivals.ten_tools import TEN

        script = [[("run_code", {"code": "print(await echo(x=7))"})], "done"]
        model = ScriptedModel(script)
        agent = self._agent(model, tools=list(TEN))

        async def run() -> None:
            result = await agent.run("Call echo with 7.")
            if _returned(result).strip() == "" or result.output != "done":
                raise RuntimeError(f"the turn ended otherwise: {result.output!r}")

        return counted(model, run, script)

    async def open_with_mcp(self, folder: Path, argv: Sequence[str]) -> AgentBox:
        """The server as a toolset of an agent, its tools called from `run_code`."""
        from pydantic_ai.mcp import MCPToolset

        from rivals.models import Told

        model = Told()
        try:
            from fastmcp.client.transports import StdioTransport

            server = MCPToolset(StdioTransport(command=argv[0], args=list(argv[1:])))
        except ImportError as error:
            raise NotThere(f"its MCP client does not import: {error}") from None
        agent = self._agent(model, toolsets=[server])
        stack = contextlib.AsyncExitStack()
        await stack.enter_async_context(agent)
        return AgentBox(model, agent, stack)


SIDES = (PydanticAi(),)

"""deepagents: its local shell backend for real Python, and its code interpreter (QuickJS), whose code calls tools."""

from __future__ import annotations

import asyncio
import shlex
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from rivals.models import counted
from rivals.side import Box, NotThere, Said, Side, Turn

__all__ = ["SIDES"]

NEVER = 1_000_000_000


class ShellBox(Box):
    """A backend; each command is a process."""

    def __init__(self, folder: Path) -> None:
        from deepagents.backends import LocalShellBackend

        self._backend = LocalShellBackend(
            root_dir=str(folder), virtual_mode=False, max_output_bytes=32_000_000, inherit_env=True
        )

    async def python(self, code: str, *, kept: bool = False, timeout_s: float | None = None) -> Said:
        """An interpreter for each block."""
        if kept:
            raise NotThere("each block is a process of its own")
        return await self.bash(f"{shlex.quote(sys.executable)} -c {shlex.quote(code)}", timeout_s=timeout_s)

    async def bash(self, command: str, *, timeout_s: float | None = None) -> Said:
        """Its asynchronous `execute`."""
        more = {} if timeout_s is None else {"timeout": int(timeout_s)}
        done = await self._backend.aexecute(command, **more)
        if done.exit_code == 124:
            raise TimeoutError(done.output)
        return Said(done.output, done.exit_code == 0, whole=not done.truncated)

    async def close(self) -> None:
        """There is nothing to end."""


class Deepagents(Side):
    """Processes of a folder."""

    name = "deepagents"
    title = "deepagents, local shell"
    isolation = "none: child processes"
    language = "CPython and sh"
    packages = ("deepagents",)
    environment = "deepagents"
    requirements = ("deepagents", "langchain-openai", "langchain-quickjs", "numpy")
    modules = "deepagents"

    async def prepare(self) -> None:
        """Import it."""
        import deepagents.backends

        del deepagents

    async def open(self, folder: Path) -> Box:
        """A backend."""
        return ShellBox(folder)

    def calls(self, count: int) -> str:
        """Code has no tools."""
        raise NotThere("code in its shell calls no tools")

    calls_at_once = big_calls = calls

    async def turn(self, folder: Path) -> Callable[[], Awaitable[Turn]]:
        """A JSON tool call, then the answer."""
        return self._agent(folder, [[("echo", {"x": 7})], "done"])

    def _agent(self, folder: Path, script: list[Any], **more: Any) -> Callable[[], Awaitable[Turn]]:
        from benchmarks.scripted import ScriptedModel
        from deepagents import create_deep_agent
        from deepagents.backends import LocalShellBackend
        from langchain_openai import ChatOpenAI

        from rivals.ten_tools import TEN

        model = ScriptedModel(script)
        client = model.async_client()
        chat = ChatOpenAI(
            model="gpt-4o",
            api_key="none",
            http_async_client=client._client,
            base_url="http://model.invalid/v1",
        )
        agent = create_deep_agent(
            model=chat,
            tools=list(TEN),
            backend=LocalShellBackend(root_dir=str(folder), virtual_mode=False),
            **more,
        )

        async def run() -> None:
            state = await agent.ainvoke({"messages": [{"role": "user", "content": "Call echo with 7."}]})
            if state["messages"][-1].content != "done":
                raise RuntimeError(f"the turn ended otherwise: {state['messages'][-1].content!r}")
            said = state["messages"][-2].content
            if "7" not in str(said):
                raise RuntimeError(f"the tool's answer was {said!r}")

        return counted(model, run, script)


class ScriptBox(Box):
    """The middleware's tool `eval`, called as its agent calls it."""

    def __init__(self, timeout_s: float = 60.0) -> None:
        from langchain_core.tools import tool
        from langchain_quickjs import CodeInterpreterMiddleware

        from rivals.ten_tools import echo, same

        async def nap() -> None:
            """Sleep for 0.1 s."""
            await asyncio.sleep(0.1)

        self._tools = [tool(echo), tool(same), tool(nap)]
        self._limited: dict[float, Any] = {}
        self._make = CodeInterpreterMiddleware
        self._kept = self._slot("thread", timeout_s)
        self._fresh = self._slot("call", timeout_s)

    def _slot(self, mode: str, timeout_s: float) -> tuple[Any, dict[str, Any]]:
        middleware = self._make(
            mode=mode,
            timeout=timeout_s,
            max_ptc_calls=NEVER,
            max_result_chars=32_000_000,
            ptc=self._tools,
        )
        state = {"messages": []}
        state |= middleware.before_agent(state, None) or {}
        middleware._ptc_tools_by_slot[state["_quickjs_slot_id"]] = tuple(self._tools)
        if mode != "call":
            middleware._registry.get(state["_quickjs_slot_id"]).install_tools(self._tools)
        return middleware, state

    async def python(self, code: str, *, kept: bool = False, timeout_s: float | None = None) -> Said:
        """It is JavaScript that runs here."""
        from langchain.tools import ToolRuntime

        if timeout_s is not None:
            middleware, state = self._slot("call", timeout_s)
        else:
            middleware, state = self._kept if kept else self._fresh
        runtime = ToolRuntime(
            state=state, context=None, config={}, stream_writer=lambda _: None, tool_call_id="1", store=None
        )
        said = await middleware.tools[0].coroutine(runtime=runtime, code=code)
        text = str(said.content)
        if timeout_s is not None and "timeout" in text.lower():
            raise TimeoutError(text)
        return Said(text, "<error" not in text)

    async def close(self) -> None:
        """Give the interpreters back."""
        for middleware, _ in (self._kept, self._fresh):
            middleware._registry.close()


class DeepagentsScript(Deepagents):
    """JavaScript in the program's own process."""

    name = "deepagents-js"
    title = "deepagents, interpreter"
    isolation = "interpreter in the program's own process (QuickJS)"
    language = "JavaScript (QuickJS)"
    packages = ("deepagents", "langchain-quickjs")
    modules = "deepagents, langchain_quickjs"
    is_cpython = False
    empty = "1"
    sleeping = "await tools.nap({})"
    endless = "while (true) {}"

    async def prepare(self) -> None:
        """Import both."""
        import deepagents.backends
        import langchain.tools
        import langchain_core.tools
        import langchain_quickjs

        del deepagents, langchain, langchain_core, langchain_quickjs

    async def open(self, folder: Path) -> Box:
        """Two interpreters: one that lasts, one that is made anew for each block."""
        return ScriptBox()

    def calls(self, count: int) -> str:
        """In JavaScript."""
        return f"for (let i = 0; i < {count}; i++) {{ await tools.echo({{x: i}}); }}"

    def calls_at_once(self, each: int) -> str:
        """Promises."""
        return (
            f"const work = async () => {{ for (let i = 0; i < {each}; i++) {{ await tools.echo({{x: i}}); }} }};\n"
            "await Promise.all(Array.from({length: 8}, work));"
        )

    def big_calls(self, count: int) -> str:
        """In JavaScript."""
        return (
            f"const text = 'x'.repeat(1000000);\nfor (let i = 0; i < {count}; i++) {{\n"
            "  const got = await tools.same({x: text});\n"
            "  if (got.length < 1000000) throw new Error('short');\n}"
        )

    def printing(self, megabytes: int) -> str:
        """It is returned: what its console keeps is bounded."""
        return f"('x'.repeat(99) + '\\n').repeat({megabytes * 10_000})"

    def looping(self, count: int) -> str:
        """In JavaScript."""
        return f"let s = 0;\nfor (let i = 0; i < {count}; i++) {{ s += i * i % 7; }}"

    @property
    def standard_imports(self) -> str:  # type: ignore[override]
        """There are no modules."""
        raise NotThere("it runs JavaScript, without modules")

    numpy = standard_imports  # type: ignore[assignment]

    async def turn(self, folder: Path) -> Callable[[], Awaitable[Turn]]:
        """A call of `eval`, then the answer."""
        from langchain_quickjs import CodeInterpreterMiddleware

        from rivals.ten_tools import TEN

        middleware = CodeInterpreterMiddleware(ptc=[each.__name__ for each in TEN])
        script = [[("eval", {"code": "await tools.echo({x: 7})"})], "done"]
        return self._agent(folder, script, middleware=[middleware])


SIDES = (Deepagents(), DeepagentsScript())

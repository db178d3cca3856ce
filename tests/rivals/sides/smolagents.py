"""smolagents' own interpreter, `LocalPythonExecutor`, with all imports allowed; whole turns through `CodeAgent`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from rivals.models import counted
from rivals.side import Box, NotThere, Said, Side, Turn

__all__ = ["SIDES"]

OUTPUT = 32_000_000  # all of 10 MB is wanted; its default is 50,000 characters


class SmolBox(Box):
    """An executor for lasting blocks, one more for each fresh block."""

    def __init__(
        self, folder: Path, tools: dict[str, Any], stack: contextlib.ExitStack | None = None
    ) -> None:
        self._tools = tools
        self._stack = stack
        self._kept: Any = None
        del folder  # it works in the program's own folder

    def _executor(self, timeout_s: float | None) -> Any:
        from smolagents.local_python_executor import LocalPythonExecutor

        executor = LocalPythonExecutor(
            ["*"],
            max_print_outputs_length=OUTPUT,
            timeout_seconds=30 if timeout_s is None else timeout_s,  # type: ignore[arg-type]
        )
        executor.send_variables({})
        executor.send_tools(self._tools)
        return executor

    async def python(self, code: str, *, kept: bool = False, timeout_s: float | None = None) -> Said:
        """Evaluate it, in a thread, as its calls block."""
        from smolagents.local_python_executor import ExecutionTimeoutError, InterpreterError

        if kept and self._kept is None:
            self._kept = self._executor(timeout_s)
        executor = self._kept if kept else self._executor(timeout_s)
        run = executor if "sleep" not in code and timeout_s is None else None
        try:
            result = run(code) if run is not None else await asyncio.to_thread(executor, code)
        except ExecutionTimeoutError as error:
            raise TimeoutError(str(error)) from None
        except InterpreterError as error:
            return Said(str(error), False)
        return Said(result.logs, True)

    async def close(self) -> None:
        """There is nothing to end but an MCP server."""
        if self._stack is not None:
            self._stack.close()


class Smolagents(Side):
    """An interpreter of the syntax tree, in the program's own process."""

    name = "smolagents"
    title = "smolagents, local"
    isolation = "none that holds: an interpreter in the program's own process"
    language = "Python's syntax tree, interpreted"
    packages = ("smolagents",)
    environment = "smolagents"
    requirements = ("smolagents[openai,mcp]", "numpy")
    modules = "smolagents"
    is_cpython = False
    mcp_call = "get_current_time(timezone='UTC')"

    async def prepare(self) -> None:
        """Import it."""
        import smolagents.local_python_executor

        del smolagents

    async def open(self, folder: Path) -> SmolBox:
        """An executor with both tools."""
        from smolagents import tool

        from rivals.ten_tools import echo, same

        return SmolBox(folder, {"echo": tool(echo), "same": tool(same)})

    def calls_at_once(self, each: int) -> str:
        """Its threads would run the same interpreter."""
        raise NotThere("threads do not run in its interpreter")

    async def turn(self, folder: Path) -> Callable[[], Awaitable[Turn]]:
        """`CodeAgent` with a block that calls a tool, and one that answers."""
        from benchmarks.scripted import ScriptedModel
        from smolagents import CodeAgent, LogLevel, OpenAIModel, tool

        from rivals.ten_tools import TEN

        blocks = ("print(echo(x=7))", 'final_answer("done")')
        script = [f"Thought: go on.\n<code>\n{block}\n</code>" for block in blocks]
        model = ScriptedModel(script)
        chat = OpenAIModel("gpt-4o", api_key="none")
        chat.client = model.client()
        agent = CodeAgent(tools=[tool(each) for each in TEN], model=chat, verbosity_level=LogLevel.OFF)

        async def run() -> None:
            answer = agent.run("Call echo with 7.")
            if answer != "done":
                raise RuntimeError(f"the turn ended otherwise: {answer!r}")

        return counted(model, run, script)

    async def open_with_mcp(self, folder: Path, argv: Sequence[str]) -> SmolBox:
        """The server's tools, through `MCPClient`."""
        from mcp import StdioServerParameters
        from smolagents import MCPClient

        stack = contextlib.ExitStack()
        tools = stack.enter_context(
            MCPClient(StdioServerParameters(command=argv[0], args=list(argv[1:])), structured_output=False)
        )
        return SmolBox(folder, {tool.name: tool for tool in tools}, stack)


SIDES = (Smolagents(),)

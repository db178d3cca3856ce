"""agentd: an executor with a tool set for blocks, the patched client for whole turns."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from rivals.models import counted
from rivals.side import Box, Said, Side, Turn

__all__ = ["SIDES"]

ROOT = Path(__file__).resolve().parents[3]
SRT = ROOT / ".cache" / "npm" / "node_modules" / "@anthropic-ai" / "sandbox-runtime" / "dist" / "cli.js"
LIMITS = {"output_bytes": 32_000_000}  # as of each side: all of 10 MB is wanted
IMPORT = "from lib.tools import echo, same\n"


class AgentdBox(Box):
    """An executor, and the tools that its code calls."""

    def __init__(self, executor: Any, stack: contextlib.AsyncExitStack) -> None:
        self.executor = executor
        self._stack = stack

    async def python(self, code: str, *, kept: bool = False, timeout_s: float | None = None) -> Said:
        """A Python action."""
        from agentd.types import PythonAction

        return await self._run(
            PythonAction(code=code, state="kept" if kept else "fresh", timeout_s=timeout_s), timeout_s
        )

    async def bash(self, command: str, *, timeout_s: float | None = None) -> Said:
        """A bash action; folder and variables last."""
        from agentd.types import BashAction

        return await self._run(BashAction(command=command, timeout_s=timeout_s), timeout_s)

    async def _run(self, action: Any, timeout_s: float | None) -> Said:
        begin = time.perf_counter()
        first: list[float] = []
        size = 0

        def arrived(chunk: Any) -> None:
            nonlocal size
            size += len(chunk.data)
            if not first:
                first.append(time.perf_counter() - begin)

        result = await self.executor.run(action, on_output=arrived)
        if result.status == "timeout":
            raise TimeoutError(result.message)
        text = result.output
        return Said(
            text,
            result.exit_code == 0,
            first[0] if first else None,
            size >= len(result.stdout) + result.dropped_bytes,
        )

    async def close(self) -> None:
        """End the sandbox."""
        await self._stack.aclose()


class AgentdSide(Side):
    """One of agentd's executors."""

    language = "CPython and bash"
    holds_by_kept = False  # it has its runner, shell and folder
    packages = ("agentd-core",)
    modules = "agentd"
    head = IMPORT
    mcp_call = "get_current_time(timezone='UTC')"

    def __init__(self, kind: str, isolation: str) -> None:
        self.kind = kind
        self.name = f"agentd-{kind}"
        self.title = f"agentd, `{kind}`"
        self.isolation = isolation

    async def prepare(self) -> None:
        """Import all that a session uses."""
        import agentd.registry
        import agentd.types
        import agentd_tools

        self._make(Path.cwd() / "prepared").close()
        del agentd, agentd_tools

    def _make(self, folder: Path) -> Any:
        if self.kind == "srt":
            from agentd_executor_srt.executor import SandboxRuntimeExecutor

            return SandboxRuntimeExecutor(folder, srt_path=SRT, limits=LIMITS)
        if self.kind == "native":
            from agentd_executor_native.executor import NativeExecutor

            return NativeExecutor(folder, limits=LIMITS)
        from agentd_executor_subprocess.executor import SubprocessExecutor

        return SubprocessExecutor(folder, limits=LIMITS)

    async def open(self, folder: Path) -> AgentdBox:
        """An executor with the bindings of `echo` and `same`."""
        from agentd.registry import Registry
        from agentd_tools import ToolSet

        from rivals.ten_tools import echo, same

        stack = contextlib.AsyncExitStack()
        executor = self._make(folder)
        stack.push_async_callback(executor.aclose)
        tools = ToolSet([echo, same])
        await tools.start()
        stack.push_async_callback(tools.aclose)
        skills = executor.workspace_dir / "skills"
        renderer = Registry().create_skill_renderer()
        renderer.render(tools.specs(), skills)
        executor.attach(tools=tools, layout=renderer.layout(skills))
        return AgentdBox(executor, stack)

    async def turn(self, folder: Path) -> Callable[[], Awaitable[Turn]]:
        """The patched client: one block that calls a tool, then an answer."""
        from agentd import patch_openai_with_ptc, tool
        from benchmarks.scripted import ScriptedModel

        from rivals.ten_tools import TEN

        script = ["```python:execute\nfrom lib.tools import echo\nprint(echo(x=7))\n```\n", "done"]
        model = ScriptedModel(script)
        client = patch_openai_with_ptc(
            model.async_client(), cwd=folder, executor=self._make(folder), tools=[tool(each) for each in TEN]
        )
        self._clients = [*getattr(self, "_clients", []), client]

        async def run() -> None:
            answer = await client.chat.completions.create(
                model="gpt-4o", messages=[{"role": "user", "content": "Call echo with 7."}]
            )
            if not answer.choices[0].message.content.strip().endswith("done"):
                raise RuntimeError(f"the turn ended otherwise: {answer.choices[0].message.content!r}")

        return counted(model, run, script)

    async def unprepare(self) -> None:
        """End the clients' sandboxes."""
        for client in getattr(self, "_clients", []):
            client.cleanup_ptc()

    async def open_with_mcp(self, folder: Path, argv: Sequence[str]) -> AgentdBox:
        """A tool set of the server, attached as a session does."""
        from agentd import Session

        session = Session(
            "gpt-4o",
            cwd=folder,
            executor=self._make(folder),
            tools=[],
            mcp_servers=[{"name": "time", "command": argv[0], "args": list(argv[1:])}],
        )
        stack = contextlib.AsyncExitStack()
        await stack.enter_async_context(session)
        await session.resources.prepare()
        return AgentdBox(session.executor, stack)

    def mcp_calls(self, count: int) -> str:
        """The binding has the tool's own name."""
        return f"from lib.tools import get_current_time\nfor i in range({count}):\n    {self.mcp_call}\n"


SIDES = (
    AgentdSide("subprocess", "none: a child process with limits"),
    AgentdSide("native", "kernel sandbox (bubblewrap, seccomp)"),
    AgentdSide("srt", "kernel sandbox (sandbox-runtime)"),
)

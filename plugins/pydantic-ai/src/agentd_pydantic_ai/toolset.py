"""`CodeToolset`: one tool, `run_code`, whose code calls the tools of other toolsets as typed Python functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from agentd.registry.options import check_options
from agentd.types import ActionResult, PythonAction, PythonState
from pydantic import BaseModel
from pydantic_ai import RunContext, ToolDefinition
from pydantic_ai.toolsets import AbstractToolset, ToolsetTool, WrapperToolset

from agentd_pydantic_ai.place import CodePlace

__all__ = ["CodeToolset"]

MAX_CHARS: Final = 40_000  # of a result that the model reads, as in agentd's own sessions
GUIDE: Final = (
    "Run Python code and return what it prints. The code has a file system of its own, which stays from call to call, "
    "and may start programs."
)


class _RunCode(BaseModel):
    code: str


@dataclass
class CodeToolset(WrapperToolset[Any]):
    """Gives the model `run_code` in the place of the tools of `wrapped`, which the code imports from `lib.tools`.

    Each run has a sandbox of its own, which ends with it; inside `async with agent:` (or of this toolset) all runs have
    one, which ends there. Tools run here, in the agent's event loop, with its dependencies; those that need an approval
    or run elsewhere stay tools of their own.

    :ivar wrapped: the toolset, such as `FunctionToolset([...])` or an MCP server's.
    :ivar executor: a name, a pair of name and options, or an `agentd.protocols.Executor`; None for what the user has
        chosen for the process, else `native`.
    :ivar workspace: the folder of the files; None for a temporary one that goes with the sandbox.
    :ivar options: of the executor, by name.
    :ivar state: `kept`, and variables stay from call to call.
    :ivar name: what the tool is called.
    :raises ConfigError: for a `state` that there is not, or a `name` that is none.
    """

    executor: object = None
    workspace: str | Path | None = None
    options: Mapping[str, Any] | None = None
    state: PythonState = "fresh"
    name: str = "run_code"
    place: CodePlace = field(default_factory=CodePlace, repr=False)
    """The sandbox, which the copies that Pydantic AI makes of a toolset share, but for those of single runs."""

    def __post_init__(self) -> None:
        check_options(
            "CodeToolset", {"state": self.state, "name": self.name}, {"state": PythonState, "name": str}
        )

    async def for_run(self, ctx: RunContext[Any]) -> AbstractToolset[Any]:
        """Return what a run uses: this one if it is entered around the run, else one with a sandbox of its own, as runs
        at the same time may be of different people."""
        own: dict[str, Any] = {"wrapped": await self.wrapped.for_run(ctx)}
        return replace(self, **own, place=self.place if self.place.is_entered else CodePlace())

    async def get_tools(self, ctx: RunContext[Any]) -> dict[str, ToolsetTool[Any]]:
        """Return `run_code`, and what code cannot call."""
        tools = await self.wrapped.get_tools(ctx)
        called = {name: tool for name, tool in tools.items() if tool.tool_def.kind == "function"}
        self.place.open(self.executor, self.workspace, self.options)
        listing = await self.place.publish([tool.tool_def for tool in called.values()])
        state = " Variables stay from call to call." if self.state == "kept" else ""
        run_code = ToolDefinition(
            name=self.name,
            description=f"{GUIDE}{state}\n\n{listing}".strip(),
            parameters_json_schema=_RunCode.model_json_schema(),
        )
        others = {name: tool for name, tool in tools.items() if name not in called}
        validator: Any = _RunCode.__pydantic_validator__
        own = CodeTool(
            toolset=self, tool_def=run_code, max_retries=1, args_validator=validator, called=called
        )
        return {**others, self.name: own}

    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[Any], tool: ToolsetTool[Any]
    ) -> Any:
        """Run code, or call a tool that code cannot."""
        if not isinstance(tool, CodeTool):
            return await self.wrapped.call_tool(name, tool_args, ctx, tool)
        result = await self.place.run(
            PythonAction(code=_RunCode.model_validate(tool_args).code, state=self.state),
            self.wrapped,
            tool.called,
            ctx,
        )
        return _told(result)

    async def __aenter__(self) -> CodeToolset:
        """Keep the sandbox until it is left as often as it was entered: runs enter it, too."""
        await self.wrapped.__aenter__()
        self.place.enter()
        return self

    async def __aexit__(self, *args: Any) -> bool | None:
        """End the sandbox if nobody is in it any more; the next call of the tool starts another one."""
        try:
            return await self.wrapped.__aexit__(*args)
        finally:
            await self.place.leave()


@dataclass(kw_only=True)
class CodeTool(ToolsetTool[Any]):
    """The tool `run_code`, with the tools that its code may call."""

    called: dict[str, ToolsetTool[Any]]


def _told(result: ActionResult) -> str:
    text = result.output
    if len(text) > MAX_CHARS:
        cut = len(text) - MAX_CHARS
        text = f"{text[: MAX_CHARS // 2]}\n[... {cut} characters left out ...]\n{text[-MAX_CHARS // 2 :]}"
    if result.status == "completed":
        return text or "(no output)"
    return f"{text.rstrip()}\n[{result.status}, exit code {result.exit_code}]".lstrip()

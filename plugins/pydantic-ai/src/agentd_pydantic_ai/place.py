"""`CodePlace`: the sandbox of a `CodeToolset`, and how its code calls the agent's tools."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.to_thread
import attrs
from agentd.errors import ConfigError
from agentd.protocols import SkillRenderer, ToolDispatcher, ToolReply
from agentd.registry import Registry
from agentd.types import ActionResult, PythonAction, ToolSpec
from agentd_runner.host.command_sandbox import CommandSandbox
from anyio.from_thread import BlockingPortal
from pydantic import ValidationError
from pydantic_ai import RunContext, ToolDefinition
from pydantic_ai.exceptions import ApprovalRequired, CallDeferred, ModelRetry, ToolFailed
from pydantic_ai.messages import ToolReturn
from pydantic_ai.toolsets import AbstractToolset, ToolsetTool
from pydantic_core import to_jsonable_python

__all__ = ["CodePlace"]

SOURCE = "agent"


@attrs.frozen
class CodeRun:
    """One piece of code that runs: where its calls go."""

    portal: BlockingPortal
    toolset: AbstractToolset[Any]
    tools: Mapping[str, ToolsetTool[Any]]
    ctx: RunContext[Any]


class CodePlace:
    """Opened by the first use, closed when the last one who has entered leaves, and opened again by the next use."""

    def __init__(self) -> None:
        self._entered = 0
        self._sandbox: CommandSandbox | None = None
        self._renderer: SkillRenderer | None = None
        self._published: tuple[ToolSpec, ...] | None = None
        self._listing = ""
        self._runs: dict[str, CodeRun] = {}
        self._numbers = count(1)
        self._publishing = anyio.Lock()

    def open(self, executor: object, workspace: str | Path | None, options: Mapping[str, Any] | None) -> None:
        """Make the sandbox, unless it is there. It starts with the first code."""
        if self._sandbox is None:
            self._sandbox = CommandSandbox(executor, workspace=workspace, options=options)
            self._published = None

    async def publish(self, tools: Sequence[ToolDefinition]) -> str:
        """Bring what code imports up to date, and return what the model is told of it."""
        async with self._publishing:
            specs = tuple(map(_spec, tools))
            if specs != self._published:
                await anyio.to_thread.run_sync(partial(self._publish, specs))
        return self._listing

    def _publish(self, specs: tuple[ToolSpec, ...]) -> None:
        sandbox = self._open_sandbox()
        if not specs:
            sandbox.executor.attach(tools=None, layout=None)
            self._listing = ""
        else:
            if self._renderer is None:
                self._renderer = Registry().create_skill_renderer()
            folder = Path(sandbox.workspace) / "skills"
            self._renderer.render(specs, folder)
            sandbox.executor.attach(tools=cast("ToolDispatcher", self), layout=self._renderer.layout(folder))
            self._listing = self._renderer.prompt(specs, folder)
        self._published = specs

    async def run(
        self,
        action: PythonAction,
        toolset: AbstractToolset[Any],
        tools: Mapping[str, ToolsetTool[Any]],
        ctx: RunContext[Any],
    ) -> ActionResult:
        """Run code; its calls are carried out in this event loop meanwhile."""
        ident = f"code{next(self._numbers)}"
        failure: Exception
        async with BlockingPortal() as portal:
            self._runs[ident] = CodeRun(portal, toolset, tools, ctx)
            try:
                return await self._open_sandbox().executor.run(action, action_id=ident)
            except Exception as error:  # the portal's task group would wrap it
                failure = error
            finally:
                del self._runs[ident]
        raise failure

    def _open_sandbox(self) -> CommandSandbox:
        if self._sandbox is None:
            raise ConfigError(
                "run_code: its toolset was closed during the run; enter it for as long as the run lasts"
            )
        return self._sandbox

    @property
    def is_entered(self) -> bool:
        """Whether somebody has entered it, who closes it."""
        return self._entered > 0

    def enter(self) -> None:
        """Keep it open until `leave`."""
        self._entered += 1

    async def leave(self) -> None:
        """End what runs, and remove a temporary workspace, if this was the last one."""
        self._entered -= 1
        if self.is_entered:
            return
        sandbox, self._sandbox = self._sandbox, None
        if sandbox is not None:
            await sandbox.aclose()

    # --- what the executor calls (`agentd.protocols.ToolDispatcher`)

    def submit(
        self,
        name: str,
        arguments: bytes,
        action_id: str,
        reply: Callable[[ToolReply], None],
        *,
        may_hand_back: bool = False,
    ) -> None:
        """Have a call carried out in the event loop of the code that it comes from."""
        run = self._runs.get(action_id)
        if run is None:
            reply(_failed("the code that this call belongs to has ended"))
            return
        run.portal.start_task_soon(_carry_out, run, name, arguments, reply)

    def catalog(self) -> bytes:
        """Return the tools as JSON."""
        specs = self._published or ()
        listed = [
            {"name": spec.name, "description": spec.description, "input_schema": spec.input_schema}
            for spec in specs
        ]
        return json.dumps(listed).encode()


async def _carry_out(run: CodeRun, name: str, arguments: bytes, reply: Callable[[ToolReply], None]) -> None:
    try:
        answer = await _answer(run, name, json.loads(arguments))
    except (ModelRetry, ToolFailed) as error:  # what it says is for the model as it stands
        answer = _failed(error.message)
    except Exception as error:  # for the code to read, as a tool's own
        answer = _failed(f"{type(error).__name__}: {error}".removesuffix(": "))
    except BaseException:
        reply(_failed("the run was cancelled"))
        raise
    reply(answer)


async def _answer(run: CodeRun, name: str, arguments: dict[str, Any]) -> ToolReply:
    tool = run.tools.get(name)
    if tool is None:
        return _failed(f"unknown tool {name!r}; there are: {', '.join(run.tools)}", "UnknownToolError")
    ctx = replace(run.ctx, tool_name=name)
    try:
        validated = tool.args_validator.validate_python(arguments, context=ctx.validation_context)
        if tool.args_validator_func is not None:
            await tool.args_validator_func(ctx, **validated)
    except ValidationError as error:
        return _failed(str(error), "ToolInputError")
    try:
        value = await run.toolset.call_tool(name, validated, ctx, tool)
    except (ApprovalRequired, CallDeferred):
        return _failed(
            "this call needs an answer from outside, which code cannot wait for", "ToolDeniedError"
        )
    if isinstance(value, ToolReturn):
        value = value.return_value
    return ToolReply(ok=True, payload=json.dumps(to_jsonable_python(value, serialize_unknown=True)).encode())


def _failed(message: str, kind: str = "ToolError") -> ToolReply:
    return ToolReply(ok=False, payload=json.dumps({"type": kind, "message": message}).encode())


def _spec(tool: ToolDefinition) -> ToolSpec:
    return ToolSpec(
        name=tool.name,
        description=tool.description or "",
        input_schema=tool.parameters_json_schema,
        output_schema=tool.return_schema,
        source=SOURCE,
    )

"""An agent that code has started: a session of its own, in a folder of its own, on what its caller has left."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TypedDict

import anyio
import attrs
from agentd._concurrency.pool import call_in_thread
from agentd.errors import AgentdError, AnswerError, ToolError, ToolInputError, suggest
from agentd.events import RunEnd
from agentd.protocols import Model, OnProgress, ToolSource
from agentd.session.session import Session
from agentd.turn.spending import around
from agentd.types import Binding, Budgets, CreateAction
from agentd_runner.inside.files import remove_tree
from agentd_tools.calling import SourceCall

from agentd_subagents import folders
from agentd_subagents.borrowed import BorrowedTools, InheritedPolicy
from agentd_subagents.purse import is_spent, remainder
from agentd_subagents.settings import NestingSettings
from agentd_subagents.telling import AgentTeller

__all__ = ["AgentAnswer", "AgentHost", "AgentOrder", "run_agent"]

Workspace = Literal["own", "copy"]
_FOLDER: Final = "agents"
TOLD: Final = (
    "You are an agent that a program has started for one task. Your last answer is returned to it as the result; "
    "nobody else reads it and nobody answers questions. Files that you leave in the workspace are handed over with it."
)


class AgentHost(Protocol):
    """What an agent asks of the session or client that starts it."""

    workspace: Path
    skills_dir: Path
    policy: Any
    executor_wanted: object
    executor_options: dict[str, Any]
    tell: Callable[[Any], None]

    @property
    def executor(self) -> Any:
        """What runs its code."""

    @property
    def tools(self) -> Any:
        """Its tools."""

    def registry(self) -> Any:
        """Its plugins."""


class AgentAnswer(TypedDict):
    """What an agent gives back. `files` are those that it has made or changed, as paths of the caller's workspace;
    those of `left_out` were too many or too large to be brought there, or are links. `deleted` counts for copies."""

    answer: Any
    files: list[str]
    left_out: list[str]
    deleted: list[str]
    turns: int
    cost_usd: float | None


@attrs.frozen(kw_only=True)
class AgentOrder:
    """What an agent is to do, and with what.

    :ivar names: the caller's tools that it may call; those of the source `models` it gets of its own.
    """

    task: str
    workspace: Workspace = "own"
    schema: dict[str, Any] | None = None
    names: Sequence[str] = ()
    budgets: Budgets


async def run_agent(
    order: AgentOrder,
    call: SourceCall,
    model: Model,
    settings: NestingSettings,
    *,
    run: Any,
    nested: ToolSource | None,
    own_names: Sequence[str],
    on_progress: OnProgress | None,
) -> AgentAnswer:
    """Start an agent, wait for its answer, and bring its files back. Cancelled, it ends the agent first.

    :param run: the caller's run, a `TurnLoop`.
    :param nested: the agent's own source `models`, if it has one; `own_names` are its tools.
    :raises ToolError: if it ends without an answer.
    """
    host: AgentHost = call.session
    borrowed = _borrowed(host, [name for name in order.names if name not in own_names])
    has_code = run.executor is not None
    place = _place(host, settings) if has_code else {}
    folder = await call_in_thread(folders.made_folder)
    try:
        skills = folder / "skills"
        if order.workspace == "copy":
            copy = partial(
                folders.copy_workspace,
                host.workspace,
                folder,
                without=host.skills_dir,
                most_bytes=settings.copy_mib * 2**20,
            )
            await call_in_thread(copy)
        before = await call_in_thread(partial(folders.look_through, folder, without=skills))
        sources: list[ToolSource] = [] if nested is None else [nested]
        if borrowed:
            sources.append(BorrowedTools(host.tools, borrowed, call.action_id))
        with anyio.CancelScope() as scope:
            spent: list[str] = []
            above = around.get()

            def look() -> None:
                if said := is_spent(above):
                    spent.append(said)
                    scope.cancel()

            teller = AgentTeller(
                call, {b.python_name for b in borrowed}, on_progress, order.budgets.max_turns, look
            )
            session = Session(
                model,
                **place,
                mode="ptc" if has_code else "tools",
                bash_tool=has_code and not run.notations,
                tools=sources,
                cwd=folder,
                skills_dir=skills,
                instructions="\n\n".join(filter(None, (TOLD, settings.instructions))),
                budgets=remainder(order.budgets),
                sinks=[teller],
                registry=host.registry(),
                policy=None if host.policy is None else InheritedPolicy(host.policy),
            )
            answer = await _answer(session, order)
        if scope.cancelled_caught:
            raise ToolError(f"the agent was ended: {spent[0]}", data={"stop_reason": "budget"})
        after = await call_in_thread(partial(folders.look_through, folder, without=skills))
        changed = [path for path, state in after.items() if before.get(path) != state]
        brought = await _bring(host, folder, changed) if has_code else {}
        return AgentAnswer(
            answer=answer,
            files=list(brought.values()),
            left_out=[path for path in changed if path not in brought],
            deleted=[path for path in before if path not in after],
            turns=teller.turns,
            cost_usd=session.cost_usd,
        )
    finally:
        with anyio.CancelScope(shield=True):
            await call_in_thread(partial(remove_tree, folder))


async def _answer(session: Session, order: AgentOrder) -> Any:
    try:
        async with session:
            if order.schema is not None:
                return await session.ask(order.task, output=order.schema)
            end = await session.ask(order.task)
    except AnswerError as error:
        raise ToolError(f"the agent has not answered as asked: {error}", data={"text": error.text}) from error
    except ToolError:
        raise
    except AgentdError as error:
        raise ToolError(f"the agent has failed: {error}") from error
    assert isinstance(end, RunEnd)
    if end.stop_reason != "answer":
        said = f" ({end.error})" if end.error else ""
        raise ToolError(
            f"the agent ended without an answer: {end.stop_reason}{said}",
            data={"stop_reason": end.stop_reason, "text": end.text},
        )
    return end.text


def _place(host: AgentHost, settings: NestingSettings) -> dict[str, Any]:
    """Return what runs the agent's code: the same kind of executor as the caller's, with its options."""
    own = dict(settings.executor_options or {})
    if settings.executor is not None:
        return {"executor": settings.executor, "executor_options": own}
    wanted = host.executor_wanted
    if wanted is not None and not isinstance(wanted, str | tuple | list):
        raise ToolError(
            f"no agent was started: the executor of this session was given as an object ({type(wanted).__name__}), "
            "which cannot be had twice; its owner names one for agents: models_from_code(executor=...)"
        )
    return {"executor": wanted, "executor_options": {**host.executor_options, **own}}


def _borrowed(host: AgentHost, names: Sequence[str]) -> list[Binding]:
    known = {b.python_name: b for b in host.tools.bindings}
    for name in names:
        if name not in known:
            raise ToolInputError(
                f"tools: there is no tool {name!r}; there are: {', '.join(known)}{suggest(name, known)}"
            )
    return [known[name] for name in names]


async def _bring(host: AgentHost, folder: Path, changed: list[str]) -> dict[str, str]:
    """Write what an agent has left into the caller's workspace, through its executor, which lets no path lead out."""
    brought: dict[str, str] = {}
    place = f"{_FOLDER}/{secrets.token_hex(4)}"
    pieces = folders.brought_back(folder, changed)
    while (piece := await call_in_thread(partial(next, pieces, None))) is not None:
        path, content = piece
        result = await host.executor.run(CreateAction(path=f"{place}/{path}", content=content, cwd="."))
        if result.exit_code == 0:
            brought[path] = f"{place}/{path}"
    return brought

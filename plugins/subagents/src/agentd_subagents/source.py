"""The tool source `models`: what code calls to ask models and to start agents."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from contextvars import ContextVar
from functools import partial
from typing import Any, Final, TypedDict, TypeVar

import anyio
import attrs
from agentd.errors import AgentdError, ToolError, ToolInputError, UnknownToolError
from agentd.protocols import OnProgress, SourceHost
from agentd.types import Budgets, ToolSpec
from agentd_tools.calling import SourceCall, current_call
from agentd_tools.function import FunctionTool, describe_function
from anyio.lowlevel import RunVar

from agentd_subagents.agents import AgentAnswer, AgentOrder, Workspace, run_agent
from agentd_subagents.asking import ModelQuestion, ask, form_for
from agentd_subagents.home_loop import on_loop_of
from agentd_subagents.opening import ModelOpener
from agentd_subagents.purse import Purse, own_run
from agentd_subagents.settings import NestingSettings

__all__ = ["NAME", "ModelsSource"]

T = TypeVar("T")
NAME: Final = "models"
_LONG_S: Final = 7 * 24 * 3600.0
"""The time-out of a call. What it does is bounded by `timeout_s`, by an agent's budgets, and by the run's."""
_numbers: Final = itertools.count(1)
_SPAWNING: Final = ("spawn_agent", "spawn_agents")
_progress: Final[ContextVar[OnProgress | None]] = ContextVar("agentd_subagents_progress", default=None)


class ModelAnswer(TypedDict):
    """One of two: the answer, or why there is none."""

    answer: Any
    error: str | None


class AgentOutcome(TypedDict):
    """What `spawn_agent` returns, or why there is nothing."""

    result: AgentAnswer | None
    error: str | None


class AgentBudgets(TypedDict, total=False):
    """What an agent may use: no more than its owner allows, and than is left."""

    max_turns: int
    wall_time_s: float
    max_tokens: int
    max_cost_usd: float
    max_tool_calls: int


@attrs.define(eq=False)
class _Bounds:
    """What belongs to one event loop: how much is under way, and what it will cost."""

    questions: anyio.CapacityLimiter
    agents: anyio.CapacityLimiter
    purse: Purse = attrs.field(factory=Purse)


class ModelsSource:
    """Implements `agentd.protocols.ToolSource`. The functions' docstrings are what the model reads of them.

    :param allowed: the tools that there are; None for all.
    """

    name = NAME

    def __init__(self, settings: NestingSettings, *, allowed: Collection[str] | None = None) -> None:
        self._settings = settings
        self._opener = ModelOpener(settings)
        functions: list[Callable[..., Any]] = [self.ask_model, self.ask_models]
        if settings.depth > 0:
            functions += [self.spawn_agent, self.spawn_agents]
        described = [describe_function(function, source=NAME) for function in functions]
        self._tools: dict[str, FunctionTool] = {
            tool.spec.name: tool for tool in described if allowed is None or tool.spec.name in allowed
        }
        self._bounds: RunVar[_Bounds] = RunVar(f"agentd_subagents_bounds_{next(_numbers)}")

    # --- ToolSource ----------------------------------------------------------------------------------

    async def list_tools(self, host: SourceHost | None = None) -> Sequence[ToolSpec]:
        """Return the tools' descriptions, with the models that may be named."""
        models = ", ".join(map(repr, self._settings.choices))
        note = f"\n\nModels that may be named: {models}." if models else ""
        return [
            attrs.evolve(
                tool.spec,
                description=tool.spec.description + note,
                timeout_s=_LONG_S,
                annotations={"readOnlyHint": name not in _SPAWNING, "openWorldHint": True},
            )
            for name, tool in self._tools.items()
        ]

    async def call(
        self, name: str, arguments: Mapping[str, object], on_progress: OnProgress | None = None
    ) -> object:
        """Ask or start what the code wants. Raises `ToolError`."""
        tool = self._tools.get(name)
        if tool is None:
            raise UnknownToolError(name, self._tools)
        positional, named = tool.arguments(json.dumps(arguments).encode(), name)
        run = own_run()
        _progress.set(on_progress)  # each call has a context of its own
        work = partial(tool.function, *positional, **named)
        try:
            return await on_loop_of(run, work)
        except ToolError:
            raise
        except AgentdError as error:
            raise ToolError(f"{name}(): {error}") from error

    async def aclose(self) -> None:
        """Close the clients that were opened for other models than the session's own."""
        await self._opener.aclose()

    # --- questions -----------------------------------------------------------------------------------

    async def ask_model(
        self,
        prompt: str,
        *,
        model: str | None = None,
        system: str | None = None,
        schema: dict[str, Any] | None = None,
        max_tokens: int | None = None,
    ) -> Any:
        """Ask a language model one question, and return its answer as text. It knows nothing but the prompt: put in all
        that it needs. Raises ToolError if there is no answer. For many prompts, `ask_models` asks them side by side.

        prompt: what is asked, with everything that the model needs to know.
        model: which model; by default the usual one.
        system: what the model is told before the prompt.
        schema: a JSON Schema; the answer is then a value that fits it, not text.
        max_tokens: how long the answer may be.
        """
        question = ModelQuestion(prompt=prompt, system=system, form=form_for(schema))
        return await self._ask(question, model, max_tokens)

    async def ask_models(
        self,
        prompts: list[str],
        *,
        model: str | None = None,
        system: str | None = None,
        schema: dict[str, Any] | None = None,
        max_tokens: int | None = None,
    ) -> list[ModelAnswer]:
        """Ask a language model many questions side by side, each as `ask_model` does. Returns a list in the order of
        the prompts: {"answer": ..., "error": None}, or {"answer": None, "error": "why"} where there is no answer.

        prompts: what is asked; each prompt has everything that the model needs to know.
        model: which model; by default the usual one.
        system: what the model is told before each prompt.
        schema: a JSON Schema; answers are then values that fit it, not text.
        max_tokens: how long each answer may be.
        """
        form = form_for(schema)
        questions = [ModelQuestion(prompt=prompt, system=system, form=form) for prompt in prompts]
        works = [partial(self._ask, question, model, max_tokens) for question in questions]
        found = await side_by_side(works, self._settings.parallel, _progress.get())
        return [ModelAnswer(answer=value, error=error) for value, error in found]

    async def _ask(self, question: ModelQuestion, wanted: str | None, max_tokens: int | None) -> Any:
        bounds, run = self._own_bounds(), own_run()
        if max_tokens is not None and max_tokens < 1:
            raise ToolInputError(f"max_tokens: must be at least 1, got {max_tokens}")
        async with bounds.questions:
            model = self._opener.open(
                wanted, run, _session().registry(), max_tokens=max_tokens, streamed=False
            )
            try:
                return await ask(question, model, bounds.purse, timeout_s=self._settings.timeout_s)
            finally:
                with anyio.CancelScope(shield=True):
                    await self._opener.done(model)

    def _own_bounds(self) -> _Bounds:
        try:
            return self._bounds.get()
        except LookupError:
            settings = self._settings
            made = _Bounds(
                anyio.CapacityLimiter(settings.parallel), anyio.CapacityLimiter(max(1, settings.width))
            )
            self._bounds.set(made)
            return made

    # --- agents --------------------------------------------------------------------------------------

    async def spawn_agent(
        self,
        task: str,
        *,
        model: str | None = None,
        workspace: Workspace = "own",
        schema: dict[str, Any] | None = None,
        tools: list[str] | None = None,
        budgets: AgentBudgets | None = None,
    ) -> AgentAnswer:
        """Start an agent that works on a task by running code, as you do, and wait for its result. It knows nothing but
        the task. Returns a dict with `answer` (its last words, or a value if there is a schema) and `files`: what it
        has made or changed, as paths in this workspace that can be read now. Raises ToolError if it ends without an
        answer. For many tasks, `spawn_agents` runs them side by side.

        task: what it is to do, with everything that it needs to know.
        model: which model; by default the usual one.
        workspace: "own" for an empty folder, "copy" for a copy of this workspace; changes stay in its own folder.
        schema: a JSON Schema; the answer is then a value that fits it.
        tools: names of the tools here that it may call; by default none.
        budgets: what it may use at most, max_turns or max_cost_usd say.
        """
        order = self._order(task, workspace, schema, tools, budgets)
        return await self._spawn(order, model, _progress.get())

    async def spawn_agents(
        self,
        tasks: list[str],
        *,
        model: str | None = None,
        workspace: Workspace = "own",
        schema: dict[str, Any] | None = None,
        tools: list[str] | None = None,
        budgets: AgentBudgets | None = None,
    ) -> list[AgentOutcome]:
        """Start an agent for each task, side by side, each as `spawn_agent` does. Returns a list in the order of the
        tasks: {"result": what spawn_agent returns, "error": None}, or {"result": None, "error": "why"}.

        tasks: what they are to do, each with everything that its agent needs to know.
        model: which model; by default the usual one.
        workspace: "own" for an empty folder, "copy" for a copy of this workspace; changes stay in its own folder.
        schema: a JSON Schema; answers are then values that fit it.
        tools: names of the tools here that they may call; by default none.
        budgets: what each may use at most, max_turns or max_cost_usd say.
        """
        orders = [self._order(task, workspace, schema, tools, budgets) for task in tasks]
        works = [partial(self._spawn, order, model, None) for order in orders]
        found = await side_by_side(works, self._settings.width, _progress.get())
        return [AgentOutcome(result=value, error=error) for value, error in found]

    def _order(
        self,
        task: str,
        workspace: Workspace,
        schema: dict[str, Any] | None,
        tools: list[str] | None,
        budgets: AgentBudgets | None,
    ) -> AgentOrder:
        form_for(schema)  # what is no schema is said before anything starts
        names = list(dict.fromkeys(tools or ()))
        for name in names:
            if name in _SPAWNING and self._settings.depth <= 1:
                raise ToolInputError(
                    f"tools: {name!r} cannot be given: agents may not start agents of their own here (no deeper)"
                )
        return AgentOrder(
            task=task,
            workspace=workspace,
            schema=schema,
            names=names,
            budgets=_lowest(self._settings.budgets, budgets),
        )

    async def _spawn(
        self, order: AgentOrder, wanted: str | None, on_progress: OnProgress | None
    ) -> AgentAnswer:
        call = current_call.get()
        if call is None or call.session is None:
            raise ToolError("agents are started by the code of a session")
        run = own_run()
        own_names = [name for name in order.names if name in self._tools]
        nested = None
        if own_names:
            below = attrs.evolve(self._settings, depth=self._settings.depth - 1)
            nested = ModelsSource(below, allowed=own_names)
        async with self._own_bounds().agents:
            model = self._opener.open(wanted, run, call.session.registry(), streamed=True)
            try:
                return await run_agent(
                    order,
                    call,
                    model,
                    self._settings,
                    run=run,
                    nested=nested,
                    own_names=own_names,
                    on_progress=on_progress,
                )
            finally:
                with anyio.CancelScope(shield=True):
                    await self._opener.done(model)


def _session() -> Any:
    call: SourceCall | None = current_call.get()
    if call is None or call.session is None:
        raise ToolError("models are asked by the code of a session")
    return call.session


def _lowest(limits: Budgets, wanted: AgentBudgets | None) -> Budgets:
    """Return the owner's budgets, lowered to those that the code wants."""
    lower: dict[str, Any] = {}
    for name, value in (wanted or {}).items():
        limit = getattr(limits, name)
        lower[name] = value if limit is None or value < limit else limit
    try:
        return attrs.evolve(limits, **lower)
    except AgentdError as error:
        raise ToolInputError(f"budgets: {error}") from None


async def side_by_side(
    works: Sequence[Callable[[], Coroutine[Any, Any, T]]], width: int, on_progress: OnProgress | None
) -> list[tuple[T | None, str | None]]:
    """Do some works, so many at once, and return for each its value or why it failed, in their order."""
    found: list[tuple[T | None, str | None]] = [(None, None)] * len(works)
    waiting = iter(enumerate(works))
    done = 0

    async def worker() -> None:
        nonlocal done
        for index, work in waiting:
            try:
                found[index] = (await work(), None)
            except AgentdError as error:
                found[index] = (None, str(error))
            done += 1
            if on_progress is not None:
                on_progress(float(done), float(len(works)), "")

    async with anyio.create_task_group() as group:
        for _ in range(min(width, len(works))):
            group.start_soon(worker)
    return found

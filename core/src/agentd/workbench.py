"""The workbench: what the code of one conversation works with - workspace, executor, tools and skills."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio

from agentd.errors import ConfigError
from agentd.eventloop import LoopCaller
from agentd.tools.crossing import CrossLock
from agentd.tools.refresher import Refresher
from agentd.watching import Watcher, Watches
from agentd.workspace import open_workspace

if TYPE_CHECKING:
    from agentd.protocols import Executor, SkillRenderer, ToolSource
    from agentd.registry import Registry
    from agentd.tools import Binding, ToolSet
    from agentd.tools.shelf import Shelf

__all__ = ["DEFAULT_PROMPT_TOKENS", "Workbench", "find_executor"]

DEFAULT_PROMPT_TOKENS: Final = 4000


def find_executor(
    executor: object, workspace: Path, registry: Callable[[], Registry], options: Mapping[str, Any]
) -> tuple[Executor, bool]:
    """Return the executor and whether it is ours to close.

    :param executor: a plugin's name, None for `subprocess`, an `Executor`, or an object with the methods
        `execute_bash`, `execute_python` and `create_file`.
    """
    if executor is None or isinstance(executor, str):
        return registry().create_executor(executor or "subprocess", workspace, **options), True
    if options:
        raise ConfigError("executor_options: only go with an executor's name, not with an executor object")
    if callable(getattr(executor, "run", None)) and callable(getattr(executor, "attach", None)):
        return executor, False  # type: ignore[return-value]
    if callable(getattr(executor, "execute_bash", None)):
        from agentd.legacy import LegacyExecutor

        return LegacyExecutor(executor, workspace), False
    raise ConfigError(
        "executor: must be a plugin's name, an object with run() and attach() (agentd.protocols.Executor) or one "
        f"with execute_bash(), execute_python() and create_file(), got {type(executor).__name__}"
    )


class Workbench:
    """Everything that several runs of one session or client share. Nothing starts before `prepare`.

    Runs may be in several event loops and threads at once.

    :param cwd: the workspace; made if it is not there. An executor object brings its own.
    :param tools: functions; None for those marked with `@tool`, whatever there is when a run starts.
    :param mcp_servers: what a tool source plugin takes, and `ToolSource` objects. These belong to the
        workbench from then on: it closes them.
    :param skills_dir: default `skills` in the workspace.
    :param prompt_tokens: how long the part of the prompt about skills and tools may be, in tokens.
    """

    def __init__(
        self,
        *,
        cwd: str | Path = ".",
        executor: object = None,
        executor_options: Mapping[str, Any] | None = None,
        tools: Sequence[Callable[..., Any]] | None = None,
        mcp_servers: Sequence[object] = (),
        skills_dir: str | Path | None = None,
        registry: Registry | None = None,
        prompt_tokens: int = DEFAULT_PROMPT_TOKENS,
    ) -> None:
        own = getattr(executor, "workspace_dir", None)
        self.workspace = open_workspace(own if own is not None and not isinstance(executor, str) else cwd)
        self.skills_dir = self.workspace / "skills" if skills_dir is None else Path(skills_dir).absolute()
        self.prompt_tokens = prompt_tokens
        self._executor_wanted = executor
        self._executor_options = dict(executor_options or {})
        self._executor: Executor | None = None
        self._owned = False
        self._tools = None if tools is None else [tool for tool in tools if _is_function(tool)]
        # What is no function is a tool source or a plugin's to understand, wherever it was given.
        self._mcp_servers = [*mcp_servers, *(tool for tool in tools or () if not _is_function(tool))]
        self._renderer: SkillRenderer | None = None
        self._registry = registry
        self._lock = threading.Lock()
        self._shelf: Shelf | None = None
        self._bound: tuple[object, ...] | None = None
        self._toolset: ToolSet | None = None
        self._published: tuple[Binding, ...] | None = None
        self._skills_prompt = ""
        self._watches = Watches(self._current)
        self._refresher = Refresher(self._refresh)
        self.serve: Callable[[ToolSet], Awaitable[object]] | None = None
        """How to have async tools run on the event loop of whoever owns this object."""
        self._preparing = CrossLock()
        self._runs = count(1)

    def registry(self) -> Registry:
        """Return the plugin registry, made when it is first needed."""
        if self._registry is None:
            from agentd.registry import Registry

            self._registry = Registry()
        return self._registry

    @property
    def executor(self) -> Executor:
        """The executor, made when it is first needed."""
        with self._lock:
            if self._executor is None:
                self._executor, self._owned = find_executor(
                    self._executor_wanted, self.workspace, self.registry, self._executor_options
                )
            return self._executor

    @property
    def python_state(self) -> str:
        """Whether Python blocks share a namespace: `fresh` (no) or `kept`."""
        return str(getattr(self.executor, "state", "fresh"))

    # --- tools and skills --------------------------------------------------------------------------

    async def prepare(self, mcp_servers: Sequence[object] = ()) -> str:
        """Bring tools and skills up to date and return what the prompt says about them.

        Where nothing has changed since the last time, nothing is done. Without tools and without a skills
        directory nothing is written. A server that fails is closed and forgotten, and raises an error that
        names it.

        :param mcp_servers: servers for this and all later runs until the end, beside those from the start.
            One that is known already, by identity or by an equal description, is used again.
        """
        async with self._preparing:
            await self._open(mcp_servers, always=self._published is None and self.skills_dir.is_dir())
            await self._publish(self.executor)
            return self._skills_prompt

    async def prepare_tools(self, mcp_servers: Sequence[object] = ()) -> ToolSet:
        """Bring the tools alone up to date and return them: no executor is made and nothing is written."""
        async with self._preparing:
            await self._open(mcp_servers, always=True)
            assert self._toolset is not None
            return self._toolset

    @property
    def has_tools(self) -> bool:
        """Whether there is a function or a source that tools may come from."""
        return bool(self._mcp_servers or self._functions() or (self._shelf and self._shelf.sources))

    def take_over(self, other: Workbench) -> None:
        """Have the servers and functions of another workbench as well, and its open sources in its place."""
        self._mcp_servers += [s for s in other._mcp_servers if not any(s is m for m in self._mcp_servers)]
        if self._shelf is None:
            with other._lock:
                self._shelf, other._shelf = other._shelf, None
        if other._tools is not None:
            own = self._tools or []
            self._tools = [*own, *(t for t in other._tools if t not in own)]

    async def _open(self, servers: Sequence[object], *, always: bool) -> None:
        functions = self._functions()
        fresh: list[ToolSource] = []
        try:
            for server in (*self._mcp_servers, *servers):
                fresh += self._shelves().take(server)
            sources = () if self._shelf is None else self._shelf.sources
            wanted = (*functions, *sources)
            if wanted != (self._bound or ()) or (always and self._toolset is None):
                await self._bind(functions, sources)
                self._bound = wanted
        except BaseException:
            if fresh and self._shelf is not None:
                with anyio.CancelScope(shield=True):
                    await self._shelf.drop(fresh)
            raise

    def _functions(self) -> tuple[Callable[..., Any], ...]:
        if self._tools is not None:
            return tuple(self._tools)
        import sys

        if "agentd.tools.decorator" not in sys.modules:
            return ()  # nobody can have marked a function
        from agentd.tools import decorated_tools

        return decorated_tools()

    def _shelves(self) -> Shelf:
        with self._lock:
            if self._shelf is None:
                from agentd.tools.shelf import Shelf

                self._shelf = Shelf(lambda server: self.registry().create_tool_sources(server))
            return self._shelf

    async def _bind(self, functions: Sequence[Callable[..., Any]], sources: Sequence[ToolSource]) -> None:
        if self._toolset is not None:
            await self._toolset.replace(functions, sources)
            return
        from agentd.tools import ToolSet

        toolset = ToolSet(functions, sources, on_call=self._watches.tell, on_event=self._watches.tell)
        toolset.on_change = self._refresher.start
        await toolset.start()
        if self.serve is not None:
            await self.serve(toolset)
        self._toolset = toolset

    async def _publish(self, executor: Executor) -> None:
        """Write the skills and tell the executor, if the tools are not those of the last time."""
        toolset = self._toolset
        bindings = self._current()
        if bindings is self._published:
            return
        if toolset is None or not (bindings or self.skills_dir.is_dir()):
            executor.attach(tools=None, skills_dir=None)
        else:
            from agentd.tools.loops import offload

            specs, directory = toolset.specs(), self.skills_dir
            renderer = self._renderer = self._renderer or self._make_renderer()
            await offload(partial(renderer.render, specs, directory, notes=toolset.instructions()))
            executor.attach(tools=toolset, skills_dir=directory)
            self._skills_prompt = await offload(partial(renderer.prompt, specs, directory))
        self._published = bindings

    def _make_renderer(self) -> SkillRenderer:
        return self.registry().create_skill_renderer(prompt_tokens=self.prompt_tokens)

    def _current(self) -> tuple[Binding, ...]:
        return () if self._toolset is None else self._toolset.bindings

    # --- sources that change their tools -------------------------------------------------------------

    async def _refresh(self) -> bool:
        """Ask the sources that said so for their tools; tell whether there is more to ask."""
        async with self._preparing:
            toolset, executor = self._toolset, self._executor
            if toolset is None:
                return False
            await toolset.refresh(changed_only=True)
            for name, error in toolset.failures.items():
                text = f"its tools have changed but could not be listed, so the old ones stay: {error}"
                toolset.log(name, "error", text)
            if executor is not None and self._published is not None:
                await self._publish(executor)
            return toolset.has_changes

    async def news(self, run: str) -> list[str]:
        """Wait until the tools are up to date, and return what a run's model has not been told about them."""
        await self._refresher.wait()
        return self._watches.news(run)

    # --- what runs hear of tools ---------------------------------------------------------------------

    def new_run(self) -> tuple[str, Callable[[], str]]:
        """Return a run's name and a function that makes ids of its actions, unlike those of any other run."""
        run = f"run{next(self._runs)}"
        return run, map((run + "_code{}").format, count(1)).__next__

    def watch(self, run: str, call: LoopCaller, watcher: Watcher, *, goes_on: bool = False) -> None:
        """Have `watcher` called in its loop for the tool calls of that run's actions, and for what sources log.

        :param goes_on: the model was told about the tools in an earlier run and not again.
        """
        self._watches.add(run, call, watcher, goes_on=goes_on)

    def unwatch(self, run: str) -> None:
        """End that, and the calls of that run that are still under way."""
        self._watches.remove(run)
        if self._toolset is not None:
            self._toolset.give_up(run)

    # --- the end -------------------------------------------------------------------------------------

    async def aclose(self) -> None:
        """End everything that this object has started. An executor that was given as an object stays open."""
        executor, toolset, shelf = self._end()
        try:
            if executor is not None:
                await executor.aclose()
        finally:
            if toolset is not None:
                toolset.close()
            if shelf is not None:
                await shelf.aclose()

    def close(self) -> None:
        """The same without an event loop, from any thread."""
        executor, toolset, shelf = self._end()
        try:
            if executor is not None:
                executor.close()
        finally:
            if toolset is not None:
                toolset.close()
            if shelf is not None:
                shelf.close()

    def _end(self) -> tuple[Executor | None, ToolSet | None, Shelf | None]:
        """Forget everything; return what is to be closed."""
        with self._lock:
            executor, self._executor = self._executor, None
            toolset, self._toolset = self._toolset, None
            shelf, self._shelf = self._shelf, None
            self._bound = self._published = None
        return executor if self._owned else None, toolset, shelf


def _is_function(tool: object) -> bool:
    if not callable(tool):
        return False
    from agentd.tools.listing import is_tool_source

    return not is_tool_source(tool)

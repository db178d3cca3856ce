"""The workbench: what the code of one conversation works with - workspace, executor, tools and skills."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from agentd.errors import ConfigError
from agentd.eventloop import LoopCaller
from agentd.events import ToolCall
from agentd.threads import call_quietly
from agentd.workspace import open_workspace

if TYPE_CHECKING:
    from agentd.protocols import Executor, SkillRenderer, ToolSource
    from agentd.registry import Registry
    from agentd.tools import ToolSet

__all__ = ["Workbench", "find_executor"]

Watcher = Callable[[ToolCall], None]


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

    :param cwd: the workspace; made if it is not there. An executor object brings its own.
    :param tools: functions; None for those marked with `@tool`, whatever there is when a run starts.
    :param mcp_servers: what a tool source plugin takes.
    :param skills_dir: default `skills` in the workspace.
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
    ) -> None:
        own = getattr(executor, "workspace_dir", None)
        self.workspace = open_workspace(own if own is not None and not isinstance(executor, str) else cwd)
        self.skills_dir = self.workspace / "skills" if skills_dir is None else Path(skills_dir).absolute()
        self._executor_wanted = executor
        self._executor_options = dict(executor_options or {})
        self._executor: Executor | None = None
        self._owned = False
        self._tools = None if tools is None else [tool for tool in tools if callable(tool)]
        # What is no function is a tool source plugin's to understand, wherever it was given.
        self._mcp_servers = [*mcp_servers, *(tool for tool in tools or () if not callable(tool))]
        self._renderer: SkillRenderer | None = None
        self._registry = registry
        self._lock = threading.Lock()
        self._sources: dict[int, tuple[object, Sequence[ToolSource]]] = {}
        self._bound: tuple[object, ...] | None = None
        self._toolset: ToolSet | None = None
        self._skills_prompt = ""
        self._watchers: dict[str, tuple[LoopCaller, Watcher]] = {}
        self.serve: Callable[[ToolSet], Awaitable[object]] | None = None
        """How to have async tools run on the event loop of whoever owns this object."""
        self._preparing = anyio.Lock()
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
        directory nothing is written.

        :param mcp_servers: servers for this and all later runs, beside those from the start.
        """
        async with self._preparing:
            executor = self.executor
            functions = self._functions()
            for server in mcp_servers:
                if not any(server is known for known in self._mcp_servers):
                    self._sources_of(server)  # first: one that fails must not fail every later call
                    self._mcp_servers.append(server)
            sources = [s for server in self._mcp_servers for s in self._sources_of(server)]
            wanted = (*functions, *sources)
            if wanted != self._bound:
                if wanted or self.skills_dir.is_dir():
                    await self._bind(executor, functions, sources)
                else:
                    executor.attach(tools=None, skills_dir=None)
                self._bound = wanted
            return self._skills_prompt

    def _functions(self) -> tuple[Callable[..., Any], ...]:
        if self._tools is not None:
            return tuple(self._tools)
        import sys

        if "agentd.tools.decorator" not in sys.modules:
            return ()  # nobody can have marked a function
        from agentd.tools import decorated_tools

        return decorated_tools()

    def _sources_of(self, server: object) -> Sequence[ToolSource]:
        known = self._sources.get(id(server))
        if known is None:  # the server is kept with its sources: its id stays taken
            known = self._sources[id(server)] = (server, self.registry().create_tool_sources(server))
        return known[1]

    async def _bind(
        self, executor: Executor, functions: Sequence[Callable[..., Any]], sources: Sequence[ToolSource]
    ) -> None:
        from agentd.tools import ToolSet

        toolset = ToolSet(functions, sources, on_call=self._tool_called)
        await toolset.start()
        specs = toolset.specs()
        renderer = self._renderer = self._renderer or self.registry().create_skill_renderer()
        await anyio.to_thread.run_sync(renderer.render, specs, self.skills_dir)
        executor.attach(tools=toolset, skills_dir=self.skills_dir)
        self._skills_prompt = renderer.prompt(specs, self.skills_dir)
        previous, self._toolset = self._toolset, toolset
        if self.serve is not None:
            await self.serve(toolset)
        if previous is not None:
            previous.on_call = None  # calls that still run are answered, and belong to no run any more

    # --- tool calls ----------------------------------------------------------------------------------

    def new_run(self) -> tuple[str, Callable[[], str]]:
        """Return a run's name and a function that makes ids of its actions, unlike those of any other run."""
        run = f"run{next(self._runs)}"
        return run, map((run + "_code{}").format, count(1)).__next__

    def watch(self, run: str, call: LoopCaller, watcher: Watcher) -> None:
        """Have `watcher` called in its loop for the tool calls of that run's actions."""
        self._watchers[run] = (call, watcher)

    def unwatch(self, run: str) -> None:
        """End that."""
        self._watchers.pop(run, None)

    def _tool_called(self, event: ToolCall) -> None:
        watchers = self._watchers
        found = watchers.get(event.code_id.partition("_")[0])
        if found is None and len(watchers) == 1:
            found = next(iter(watchers.values()), None)
        if found is not None:
            call, watcher = found
            call_quietly(call, lambda: watcher(event))

    # --- the end -------------------------------------------------------------------------------------

    async def aclose(self) -> None:
        """End everything that this object has started. An executor that was given as an object stays open."""
        executor, self._executor = self._executor, None
        if executor is not None and self._owned:
            await executor.aclose()
        toolset, self._toolset = self._toolset, None
        if toolset is not None:
            await toolset.aclose()
        self._sources.clear()
        self._bound = None

    def close(self) -> None:
        """The same for the executor, without an event loop."""
        executor, self._executor = self._executor, None
        if executor is not None and self._owned:
            executor.close()
        toolset, self._toolset = self._toolset, None
        if toolset is not None:
            toolset.close()
        self._bound = None

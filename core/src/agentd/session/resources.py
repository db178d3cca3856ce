"""What the code of one conversation works with: workspace, executor, tools and skills."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentd._concurrency.pool import call_in_thread
from agentd._concurrency.waiting import CrossLock
from agentd.errors import ConfigError, MissingPluginError
from agentd.events import SourceLog
from agentd.protocols import StatefulExecutor
from agentd.registry.defaults import default_executor
from agentd.registry.options import PluginSpec, split_spec
from agentd.turn.observer import ToolEventRouter
from agentd.workspace import open_workspace, settle_workspace

if TYPE_CHECKING:
    from agentd.protocols import AnswerForm, Executor, Offers, SkillRenderer, Toolbox, Tools
    from agentd.registry import Registry
    from agentd.turn.transcript import Message, Transcript
    from agentd.types import Binding

__all__ = ["SessionResources", "find_executor"]

log = logging.getLogger("agentd.session")


def find_executor(
    executor: object, workspace: Path, registry: Callable[[], Registry], options: Mapping[str, Any]
) -> tuple[Executor, bool]:
    """Return the executor and whether it is ours to close.

    :param executor: a plugin's name, with options perhaps, None for the default, or an `Executor`.
    """
    if executor is None:
        executor = default_executor(registry())
    if isinstance(executor, str | tuple | list):
        return registry().create_executor(split_spec(executor, where="executor"), workspace, **options), True
    if options:
        raise ConfigError("executor_options: only go with an executor's name, not with an executor object")
    if callable(getattr(executor, "run", None)) and callable(getattr(executor, "attach", None)):
        return executor, False  # type: ignore[return-value]
    raise ConfigError(
        "executor: must be a plugin's name or an object with run() and attach() (agentd.protocols.Executor), "
        f"got {type(executor).__name__}"
    )


class SessionResources:
    """Everything that several runs of one session or client share. Nothing starts before `prepare`.

    Runs may be in several event loops and threads at once. The parameters are those of `Session`. An executor object
    brings its own workspace. `ToolSource` objects belong to the resources from then on: they are closed with them.

    :param prompt_tokens: `skills_prompt_tokens` there.
    """

    def __init__(
        self,
        *,
        cwd: str | Path = ".",
        executor: object = None,
        executor_options: Mapping[str, Any] | None = None,
        tools: Sequence[object] | None = None,
        mcp_servers: Sequence[object] = (),
        renderer: PluginSpec = "agentskills",
        skills_dir: str | Path | None = None,
        registry: Registry | None = None,
        prompt_tokens: int | None = None,
        skills: Sequence[str | Path] = (),
        policy: object = None,
        approver: object = None,
        images: object = None,
    ) -> None:
        own = getattr(executor, "workspace_dir", None)
        self.workspace = open_workspace(cwd if own is None else own)
        self.skills_dir = self.workspace / "skills" if skills_dir is None else Path(skills_dir).absolute()
        self.executor_wanted = executor
        self.executor_options = dict(executor_options or {})
        self._executor: Executor | None = None
        self._stateful: StatefulExecutor | None = None  # the same, if it has a state: to ask takes 15 us
        self._owned = False
        self._tools_wanted = None if tools is None else list(tools)
        self._servers = list(mcp_servers)
        self._toolbox: Toolbox | None = None
        self._renderer_wanted = renderer
        options = {"prompt_tokens": prompt_tokens, "skills": skills or None}
        self._renderer_options = {name: value for name, value in options.items() if value is not None}
        self._renderer: SkillRenderer | None = None
        self._registry = registry
        self._lock = threading.Lock()
        self._published: tuple[Binding, ...] | None = None
        self._skills_prompt = ""
        self.events = ToolEventRouter(self._current)
        """Which run hears of which tool."""
        self.tell = self.events.tell
        """Takes an event of a tool, from any thread, to the run that it belongs to."""
        self.serve: Callable[[Tools], Awaitable[object]] | None = None
        """How to have async tools run on the event loop of whoever owns this object."""
        self._served: Tools | None = None
        self._preparing = CrossLock()
        self._settled = False
        self.is_current = False
        """True if the tools are still those of the last preparation: they were given, and no source says otherwise."""
        self._runs = count(1)
        self.transcripts: dict[str, Transcript] = {}
        """Those of the runs under way."""
        self.start: Callable[[Callable[[], Coroutine[Any, Any, None]]], object] | None = None
        self.policy: Any = None
        if policy is not None or approver is not None:
            from agentd import create_policy

            self.policy = create_policy(policy, approver, self)
        self.pictures: Any = None
        if images:
            from agentd import create_pictures

            self.pictures = create_pictures(images, self)

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
                    self.executor_wanted, self.workspace, self.registry, self.executor_options
                )
                self._stateful = self._executor if isinstance(self._executor, StatefulExecutor) else None
            return self._executor

    @property
    def python_state(self) -> str:
        """`kept` if Python blocks share a namespace, else `fresh`."""
        _ = self.executor
        return "fresh" if self._stateful is None else self._stateful.state

    # --- tools and skills --------------------------------------------------------------------------

    async def prepare(self, mcp_servers: Sequence[object] = ()) -> str:
        """Bring tools and skills up to date and return what the prompt says about them.

        Where nothing has changed since the last time, nothing is done. Without tools and without a skills directory
        nothing is written. A server that fails is closed and forgotten, and raises an error that names it.

        :param mcp_servers: servers for this and all later runs until the end, beside those from the start.
            One that is known already, by identity or by an equal description, is used again.
        """
        async with self._preparing:
            if not self._settled:  # before anything is written there
                for text in await call_in_thread(partial(settle_workspace, self.workspace, self.registry)):
                    self.tell(SourceLog(source="workspace", level="warning", text=text))
                self._settled = True
            if self.pictures is not None:  # what code shows; a model that calls tools natively has no code
                mcp_servers = [*mcp_servers, self.pictures.source]
            await self._open(mcp_servers, always=self._published is None and self._has_skills())
            await self._publish(self.executor)
            self.is_current = self._tools_wanted is not None
            return self._skills_prompt

    async def prepare_tools(self, mcp_servers: Sequence[object] = ()) -> Tools:
        """Bring the tools alone up to date and return them: no executor is made and nothing is written."""
        async with self._preparing:
            tools = await self._open(mcp_servers, always=True)
            assert tools is not None
            self.is_current = self._tools_wanted is not None
            return tools

    def offers(self, **wanted: Any) -> Offers:
        """Return what the model may call natively: see `Toolbox.offers`."""
        return self._box().offers(**wanted)

    def answer_form(self, output: Any) -> AnswerForm:
        """Return the form that a type or a JSON Schema gives an answer. Raises `ConfigError` if it has none."""
        return self._box().answer_form(output)

    @property
    def has_tools(self) -> bool:
        """True if there is a function or a source that tools may come from."""
        return (self._toolbox is not None or self._may_have_tools()) and self._box().has_tools

    @property
    def tools(self) -> Tools | None:
        """The tools, once they were prepared."""
        return None if self._toolbox is None else self._toolbox.tools

    def take_over(self, other: SessionResources) -> None:
        """Have the servers and functions of another one as well, and its open sources in their place."""
        if other.policy is not None:
            raise ConfigError("policy: goes to the client's first patch, and holds for both")
        if other._toolbox is not None or other._may_have_tools():
            self.is_current = False
            self._box().take_over(other._box())

    def _may_have_tools(self) -> bool:
        if self._servers or self._tools_wanted:
            return True
        # Somebody can have marked a function with `@tool` only if its package has been imported.
        return self._tools_wanted is None and "agentd_tools.decorator" in sys.modules

    def _has_skills(self) -> bool:
        """Tell whether there are skills without tools: a folder, and somebody who can say what is in it."""
        if "skills" in self._renderer_options:
            self.skills_dir.mkdir(parents=True, exist_ok=True)
            return True  # what is missing to show them is an error
        if not self.skills_dir.is_dir():
            return False
        try:
            self._make_renderer()
            self._box()
        except MissingPluginError as missing:
            log.info("the skills in %s are not shown to the model: %s", self.skills_dir, missing)
            return False
        return True

    def _box(self) -> Toolbox:
        with self._lock:
            if self._toolbox is None:
                self._toolbox = self.registry().create_toolbox(self._tools_wanted, self._servers, self)
            return self._toolbox

    async def _open(self, servers: Sequence[object], *, always: bool) -> Tools | None:
        if self._toolbox is None and not (servers or always or self._may_have_tools()):
            return None
        if servers or self._servers:
            self.registry().require_tool_sources([*self._servers, *servers])
        tools = await self._box().open(servers, always=always)
        if tools is not None and tools is not self._served and self.serve is not None:
            await self.serve(tools)
            self._served = tools
        return tools

    async def _publish(self, executor: Executor) -> None:
        """Write the skills and tell the executor, if the tools are not those of the last time."""
        tools = self.tools
        bindings = self._current()
        if bindings is self._published:
            return
        if tools is None or not (bindings or self.skills_dir.is_dir()):
            executor.attach(tools=None, layout=None)
            self._skills_prompt = ""
        else:
            specs, directory = tools.specs(), self.skills_dir
            renderer = self._make_renderer()
            await call_in_thread(partial(renderer.render, specs, directory, notes=tools.instructions()))
            executor.attach(tools=tools, layout=renderer.layout(directory))
            text = await call_in_thread(partial(renderer.prompt, specs, directory))
            parts = (renderer.guide.strip(), text.strip())
            self._skills_prompt = "\n\n".join(filter(None, parts)) if parts[1] else ""
        self._published = bindings

    def check(self) -> None:
        """Make the executor, and the renderer if it was chosen; without tools, the default may be missing."""
        _ = self.executor
        if self._renderer_wanted != "agentskills" or self._renderer_options:
            self._make_renderer()

    def _make_renderer(self) -> SkillRenderer:
        if self._renderer is None:
            self._renderer = self.registry().create_skill_renderer(
                self._renderer_wanted, **self._renderer_options
            )
        return self._renderer

    def _current(self) -> tuple[Binding, ...]:
        tools = self.tools
        return () if tools is None else tools.bindings

    # --- what the toolbox tells ----------------------------------------------------------------------

    async def changed(self) -> bool:
        """Ask the sources that said so for their tools, and publish them; tell whether there is more to ask."""
        async with self._preparing:
            self.is_current = False
            more = self._toolbox is not None and await self._toolbox.refresh()
            executor = self._executor
            if executor is not None and self._published is not None:
                await self._publish(executor)
            return more

    async def settled(self) -> None:
        """Wait, within reason, until no source's word that its list has changed is being dealt with."""
        if self._toolbox is not None:
            await self._toolbox.settled()

    async def kept(self, task: Message) -> Message:
        """Return a task whose pictures are kept as files, if the model is shown any."""
        return await self.pictures.kept(task) if task.parts and self.pictures is not None else task

    async def news(self, run: str, actions: Sequence[str] = ()) -> list[str]:
        """Wait until the tools are up to date, and return what a run's model has not been told of them and of jobs, and
        of the pictures that a round's actions have shown."""
        await self.settled()
        shown = [] if self.pictures is None else await self.pictures.news(run, actions)
        self.events.deliver(run)
        return [*shown, *self.events.news(run), *self.job_news()]

    def job_news(self) -> list[str]:
        """Return which jobs of the code have ended, and tell those who watch."""
        news: list[str] = getattr(self._executor, "job_news", list)()  # not by the protocol: that takes 15 us
        for text in news:
            self.tell(SourceLog(source="jobs", text=text))
        return news

    # --- runs ----------------------------------------------------------------------------------------

    def new_run(self) -> tuple[str, Callable[[], str]]:
        """Return a run's name and a function that makes ids of its actions, unlike those of any other run."""
        run = f"run{next(self._runs)}"
        return run, map((run + "_code{}").format, count(1)).__next__

    def catch_up(self, run: str, *, give_up: bool = False) -> None:
        """Hand over what is on its way of a run; `give_up`: once its calls that are still under way have ended."""
        if give_up and self._toolbox is not None:
            self._toolbox.give_up(run)
        self.events.deliver(run)

    def end_run(self, run: str) -> None:
        """Forget a run, and end its calls that are still under way."""
        self.catch_up(run, give_up=True)
        self.events.remove(run)
        self.transcripts.pop(run, None)

    # --- the end -------------------------------------------------------------------------------------

    def forget_parent(self) -> None:
        """Let go of the locks in a forked child: tasks and threads of the parent may hold them for ever."""
        self._lock = threading.Lock()
        self._preparing = CrossLock()

    async def aclose(self) -> None:
        """End everything that this object has started. An executor that was given as an object stays open."""
        executor, toolbox = self._end()
        try:
            if executor is not None:
                await executor.aclose()
        finally:
            if toolbox is not None:
                await toolbox.aclose()

    def close(self) -> None:
        """The same without an event loop, from any thread."""
        executor, toolbox = self._end()
        try:
            if executor is not None:
                executor.close()
        finally:
            if toolbox is not None:
                toolbox.close()

    def _end(self) -> tuple[Executor | None, Toolbox | None]:
        """Forget what runs; return what is to be closed. The toolbox stays, empty, for later runs."""
        with self._lock:
            executor, self._executor, self._stateful = self._executor, None, None
            self._published = self._served = None
            self.is_current = False
        if self.policy is not None:
            self.policy.close()
        return executor if self._owned else None, self._toolbox

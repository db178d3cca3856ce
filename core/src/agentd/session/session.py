"""A session: one conversation of a model with its code, for async programs (asyncio or trio).

`agentd.SyncSession` is the same for all others.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import copy_context
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

import anyio

from agentd._concurrency.channel import Channel
from agentd._concurrency.owner import GroupOwner
from agentd._concurrency.pool import call_in_thread
from agentd.errors import ConfigError, ModelError, SessionBusyError, SnapshotError
from agentd.events import Event, RunEnd
from agentd.registry.options import check_options, split_spec
from agentd.session.acting import SETTINGS, Acting, Prepared
from agentd.session.conversation import Conversation
from agentd.session.forks import forked_settings
from agentd.session.resources import SessionResources
from agentd.session.run import Run
from agentd.turn.observer import ChannelListener, SinkGroup
from agentd.turn.transcript import Message, Transcript
from agentd.types import Budgets, Usage

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from agentd.protocols import AnswerForm, Checkpoint, EventSink, Executor, Model, Timeline
    from agentd.registry import Registry
    from agentd.registry.options import PluginSpec
    from agentd.selectors import Selector

__all__ = ["Session"]

T = TypeVar("T")

log = logging.getLogger("agentd.session")


class Session:
    """One conversation: a model, an executor, tools, a workspace and budgets. An async context manager.

        async with Session("gpt-5", cwd="./workspace") as session:
            async for event in session.run("Count the lines of Python here."):
                ...

    Opening one starts nothing; the executor starts with the first block. Several runs continue the conversation.

    :param model: a model's name, or a `Model`.
    :param executor: a plugin's name or an executor object. One made from a name is closed with the session. None for
        what `agentd.defaults` says, then the variable AGENTD_EXECUTOR, then `subprocess`, which is no sandbox.
    :param executor_options: options for that plugin; they win over those of a pair of name and options.
    :param tools: functions that the model's code can import, and whatever a tool source plugin takes; None for all
        functions that are marked with `@tool`.
    :param mcp_servers: MCP servers and whatever else a tool source plugin takes.
    :param mode: how the model acts: `ptc` by writing code, `tools` by calling the tools natively, one by one,
        as JSON. Then nothing is executed but the tools, and no executor starts.
    :param bash_tool: with `ptc`, the model calls one native tool `bash` and writes no blocks.
    :param cwd: the workspace; made if it is not there.
    :param instructions: what the model is told before anything else.
    :param parsers: names of parser plugins; the model is taught the notation of the first. None for all that are
        installed, with the notation `fence`.
    :param renderer: the name of the skill renderer plugin that writes tools as files for the code.
    :param sinks: names of event sink plugins, or objects with `emit(event)` and `close()`.
    :param skills_dir: where the tools' bindings are written; default `skills` in the workspace.
    :param skills_prompt_tokens: how much of the prompt may be about skills and tools; with many of them, it
        names what there is and the code searches. Default: the renderer's own.
    :param skills: folders of skills that somebody wrote, and folders of such folders; code reads copies of them.
    :param transcript: continue this conversation.
    :param history: how much of it the model is told: a `History` of agentd-history. None for all.
    :param checkpoint_every_turn: keep a checkpoint after each turn; see `checkpoint`.
    :param snapshots: the name of the snapshot store plugin.
    :param snapshots_dir: where checkpoints lie, outside the workspace; by default in the user's state folder.
    :param store: keep all turns at this URL, with agentd-store, and go on from what is there of `conversation_id`.
    :param images: show the model pictures that code and tools give: True, or an `agentd.Images`. False for none.
    :param policy: what may be done: a preset, a YAML file, rules or a function; `approver` is who is asked.
    :param registry: with allow and block lists of its own; default what the environment says.
    :param base_url: the address of the model's server, `api_key` its key; for a model given by name, as the following.
    :param api: which of OpenAI's two APIs to speak.
    :param model_options: further arguments of every request.
    :param prices: US dollars per million tokens by model: `(input, output)` or `(input, output, cached input)`.

    Wherever the name of a plugin is taken, so is a pair of a name and options: `("fence", {...})`.
    """

    def __init__(
        self,
        model: PluginSpec | Model,
        *,
        executor: PluginSpec | Executor | object | None = None,
        executor_options: Mapping[str, Any] | None = None,
        tools: Sequence[object] | None = None,
        mcp_servers: Sequence[object] = (),
        mode: Literal["ptc", "tools"] = "ptc",
        bash_tool: bool = False,
        cwd: str | Path = ".",
        instructions: str = "",
        budgets: Budgets | None = None,
        parsers: Sequence[PluginSpec] | None = None,
        renderer: PluginSpec = "agentskills",
        sinks: Sequence[PluginSpec | EventSink] = (),
        registry: Registry | None = None,
        skills_dir: str | Path | None = None,
        skills_prompt_tokens: int | None = None,
        skills: Sequence[str | Path] = (),
        transcript: Transcript | None = None,
        history: object | None = None,
        checkpoint_every_turn: bool = False,
        snapshots: PluginSpec = "packs",
        snapshots_dir: str | Path | None = None,
        store: str | None = None,
        conversation_id: str | None = None,
        base_url: str | None = None,
        api_key: str | None = None,
        api: Literal["chat", "responses"] = "chat",
        model_options: Mapping[str, Any] | None = None,
        policy: object = None,
        approver: object = None,
        images: object = False,
        prices: Mapping[str, tuple[float, ...]] | None = None,
    ) -> None:
        self._made_with = {name: value for name, value in locals().items() if name != "self"}
        check_options("", {name: self._made_with[name] for name in SETTINGS}, SETTINGS)
        self.mode = mode
        self.transcript = Transcript() if transcript is None else transcript
        self.resources = SessionResources(
            cwd=cwd,
            executor=executor,
            executor_options=executor_options,
            tools=tools,
            mcp_servers=mcp_servers,
            renderer=renderer,
            skills_dir=skills_dir,
            prompt_tokens=skills_prompt_tokens,
            skills=skills,
            registry=registry,
            policy=policy,
            approver=approver,
            images=images,
        )
        self._acting = Acting(
            lambda: self.resources,
            mode=mode,
            bash_tool=bash_tool,
            parsers=parsers,
            budgets=budgets or Budgets(),
        )
        if store is not None or conversation_id is not None:
            if snapshots != "packs":
                raise ConfigError(
                    "store and snapshots exclude each other: both say where checkpoints are kept"
                )
            snapshots = ("store", {"url": store, "conversation": conversation_id})
        self._snapshots = {"store": snapshots, "base_dir": snapshots_dir, "has_code": mode == "ptc"}
        self._kept: Timeline | None = None
        self._checkpoint_every_turn = checkpoint_every_turn or store is not None
        given = {"base_url": base_url, "api_key": api_key, "request": model_options, "prices": prices}
        given |= {"api": None if api == "chat" else api}
        options = {name: value for name, value in given.items() if value is not None}
        self._conversation = Conversation(model, options, self.resources, self.transcript, history)
        self._instructions = instructions
        self._sinks = SinkGroup(sinks)
        self._owner: GroupOwner | None = None
        self._busy: anyio.Lock | None = None
        self._asking: list[anyio.CancelScope] = []

    # --- what can be asked ---------------------------------------------------------------------------

    @property
    def workspace(self) -> Path:
        """The directory that the code works in."""
        return self.resources.workspace

    @property
    def executor(self) -> Executor:
        """The executor, made when it is first needed."""
        return self.resources.executor

    @property
    def budgets(self) -> Budgets:
        """What a run may use."""
        return self._acting.budgets

    @property
    def usage(self) -> Usage:
        """The tokens of all runs so far."""
        return self.transcript.usage

    @property
    def cost_usd(self) -> float | None:
        """What all runs have cost, or None without a price for the model."""
        return self.usage.cost_usd

    # --- opening and closing -------------------------------------------------------------------------

    async def open(self) -> Session:
        """Open it, for whoever cannot write `async with`; returns the session. `aclose` is to be called then."""
        if self._owner is not None and not self._owner.failed:
            raise ConfigError("Session: opened once; to go on, make one with transcript=session.transcript")
        self._acting.check()
        self._conversation.check()
        if (snapshots := self._snapshots["store"]) != "packs":
            self.resources.registry().find("snapshot_store", split_spec(snapshots, where="snapshots")[0])
        self._busy, self._owner = anyio.Lock(), GroupOwner(self._close)
        await self._owner.open(self._begin)
        self.resources.start = self._owner.starter()
        self.resources.serve = lambda tools: self._check_open().start(tools.serve)
        return self

    async def _begin(self) -> None:
        self._sinks.open(self.resources.registry)
        if (self._made_with["store"] or self._made_with["conversation_id"]) is not None:
            await self._timeline.resume()

    async def aclose(self) -> None:
        """End all runs and whatever the session has started. From any task of its event loop; may be called again."""
        if self._owner is not None:
            await self._owner.aclose()

    async def __aenter__(self) -> Session:
        return await self.open()

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def _close(self) -> None:
        for scope in self._asking:
            scope.cancel()
        try:
            await self.resources.aclose()
        finally:
            if self._kept is not None:
                await self._kept.aclose()
            await self._conversation.aclose()
            await call_in_thread(self._sinks.close)  # it may write much, or wait for a server

    # --- running -------------------------------------------------------------------------------------

    def run(self, task: str | list[Any], *, output: Any = None) -> Run:
        """Give the model a task (text, or parts: `text`, `image_url` and `file` as chat completions have them, and what
        `agentd.task_parts` takes) and return the events of the run. It starts with the first event asked for.

        One run after the other: a second one waits for the first. Raises, from the iteration, `ModelError`,
        `ExecutorError`, `PluginError` and what a plugin raises.

        :param output: a type or a JSON Schema that the text of `RunEnd` is to fit, as JSON; see `ask`.
        """
        self._check_open()
        form = None if output is None else self.resources.answer_form(output)
        work = partial(self._run, Message.of_task(task), form=form)
        context = copy_context()  # of this call, not of the first event's: tools run in it
        return Run(lambda state: context.run(self._check_open().start_soon, state.drive, work))

    @overload
    async def ask(self, task: str | list[Any], *, output: None = None) -> RunEnd: ...
    @overload
    async def ask(self, task: str | list[Any], *, output: type[T]) -> T: ...
    @overload
    async def ask(self, task: str | list[Any], *, output: Any) -> Any: ...
    async def ask(self, task: str | list[Any], *, output: Any = None) -> Any:
        """Give the model a task, wait for the end and return it (`RunEnd`). Raises what `run` raises; `ConfigError` if
        closed.

        :param output: return the last answer as a value of this instead: a pydantic model, a dataclass, an attrs
            class, a TypedDict, whatever is made of them, or a JSON Schema. An answer that does not fit is asked for
            once more; then `AnswerError` is raised, with the text.
        """
        self._check_open()
        told = Message.of_task(task)
        form = None if output is None else self.resources.answer_form(output)
        with anyio.CancelScope() as scope:
            self._asking.append(scope)
            try:
                end = await self._run(told, None, form=form)
                return end if form is None else form.read(end.text)
            finally:
                self._asking.remove(scope)
        raise ConfigError("ask: this Session was closed meanwhile")

    async def prepare(self) -> None:
        """Do now what the first run would do before its first request: list the tools, make the model's client.

        Waits for a run that is under way. Raises what `run` raises.
        """
        self._check_open()
        assert self._busy is not None
        async with self._busy:
            await self._ready()
            await self._conversation.prepare()

    @property
    def _timeline(self) -> Timeline:
        """The checkpoints; most sessions never have any."""
        if self._kept is None:
            create = self.resources.registry().create_timeline
            self._kept = create(resources=self.resources, transcript=self.transcript, **self._snapshots)
        return self._kept

    def _check_open(self) -> TaskGroup:
        if self._owner is None or self._owner.group is None:
            raise ConfigError(
                "this Session is not open: use `async with Session(...)`, or `open()` in the same event loop"
            )
        return self._owner.group

    async def _run(
        self, task: Message, channel: Channel[Event] | None, *, form: AnswerForm | None = None
    ) -> RunEnd:
        assert self._busy is not None
        async with self._busy:
            model, prepared = await self._ready()
            for note in self.resources.job_news():
                task = task.with_text(f"[note: {note}]")
            if form is not None:
                task = task.with_text(form.instructions)
            task = await self.resources.kept(task)
            task.tell_task(model)
            self.transcript.messages.append(task)
            try:
                end = await self._acting.run(
                    prepared,
                    model,
                    task=task.content,
                    transcript=self.transcript,
                    listener=ChannelListener(channel, self._sinks),
                    channel=channel,
                    goes_on=True,
                    after_turn=self._after_turn if self._checkpoint_every_turn else None,
                    review=None if form is None else partial(self._conversation.review, form),
                )
            except (ConfigError, ModelError) as exc:
                self._conversation.drop_refused(str(exc))
                raise
            finally:
                if form is not None:
                    self._conversation.hold_to(None)
            if end.stop_reason == "refused":
                self._conversation.drop_refused(end.error)
            if form is not None:
                self._conversation.check_end(form, end)
            return end

    async def forget_last(self) -> str:
        """Take the last task back, with all that followed it, and return it. Files stay. Raises as `rewind`."""
        async with self._idle("forget_last"):
            return self._conversation.take_back("taken back")

    # --- checkpoints ---------------------------------------------------------------------------------

    async def checkpoint(self, label: str | None = None) -> Checkpoint:
        """Keep this moment: workspace, transcript, usage, current directory and the shell's state.

        :param label: a name to come back by; the newest checkpoint wins if several have it.
        :raises SessionBusyError: while a run is under way.
        :raises SnapshotError: if the disk is full, say; nothing is left then.
        """
        async with self._idle("checkpoint"):
            return await self._timeline.take(label)

    async def rewind(self, wanted: Selector | Checkpoint | None = None) -> Checkpoint:
        """Go back to a checkpoint, of this session or of an earlier one in this workspace, and return it.

        The next run goes on from there. A kept Python namespace is lost.

        :param wanted: id, label or turn; None for the newest.
        :raises SessionBusyError: while a run is under way.
        :raises UnknownSnapshotError: if there is none of that name; `SnapshotError` if the workspace cannot be
            restored, and stays as it is.
        :raises ConfigError: if the model was given as an object that cannot forget (`reset`).
        """
        async with self._idle("rewind"):
            self._conversation.check_forgets()
            checkpoint = await self._timeline.go_back(wanted)
            self._conversation.tell_anew()
            return checkpoint

    async def continue_from(self, transcript: Transcript) -> None:
        """Go on from another conversation, a shorter one say; workspace and shell stay as they are.

        :raises SessionBusyError: while a run is under way.
        :raises ConfigError: if the model was given as an object that cannot forget (`reset`).
        """
        async with self._idle("continue_from"):
            self._conversation.tell_anew()
            self.transcript.become(transcript)

    async def fork(
        self, wanted: Selector | Checkpoint | None = None, *, cwd: str | Path, **changes: Any
    ) -> Session:
        """Return a second session that goes on from a checkpoint of this one, in a workspace of its own.

        It is to be opened like any other, and independent from then on. It is made with the arguments of this
        one; `changes` are arguments that are to be others. Sinks that were given as objects stay here.

        :param wanted: id, label or turn; None for this moment, which is then kept.
        :param cwd: an empty or new folder outside this workspace.
        :raises ConfigError: if the model, the executor or a server was given as an object and `changes` has no
            other: it belongs to this session.
        :raises SessionBusyError: while a run is under way and `wanted` is None.
        """
        folder = Path(cwd).expanduser().resolve()
        settings = forked_settings(self._made_with, changes, self.resources, folder)
        wanted = await self.checkpoint() if wanted is None else wanted
        transcript, shell = await self._timeline.branch(wanted, folder)
        fork = Session(**settings, transcript=transcript)
        fork._timeline.begin_with(shell)
        return fork

    def checkpoints(self) -> list[Checkpoint]:
        """All checkpoints of sessions in this workspace, the oldest first."""
        return self._timeline.checkpoints()

    async def delete_checkpoint(self, wanted: Selector | Checkpoint) -> Checkpoint:
        """Remove a checkpoint and return what it was."""
        return await self._timeline.delete(wanted)

    @asynccontextmanager
    async def _idle(self, what: str) -> AsyncIterator[None]:
        self._check_open()
        assert self._busy is not None
        if self._busy.locked():
            raise SessionBusyError(what)
        async with self._busy:
            yield

    async def _after_turn(self) -> None:
        try:
            await self._timeline.take()
        except SnapshotError:  # a full disk, say: the run itself can go on
            log.exception("no checkpoint of this turn could be kept")

    async def _ready(self) -> tuple[Model, Prepared]:
        """Return the model, told everything that comes before the next task, and what it works with."""
        if self._kept is not None:
            await self._kept.settle()
        await self.resources.settled()
        prepared = self._conversation.prepared if self.resources.is_current else None
        prepared = prepared or await self._acting.prepare(own=self._instructions)
        return self._conversation.tell(prepared), prepared

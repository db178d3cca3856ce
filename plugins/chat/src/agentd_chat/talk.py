"""A talk: one conversation with an agent, kept after every turn, with what goes back and what goes on elsewhere."""

from __future__ import annotations

import shlex
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
from agentd._concurrency.pool import call_in_thread
from agentd.errors import AgentdError, ConfigError, ExecutorError, SnapshotError, UnknownSnapshotError
from agentd.events import Event, RunEnd
from agentd.protocols import JobExecutor, ShellExecutor
from agentd.session.session import Session
from agentd.turn.spending import Spending, around
from agentd.turn.transcript import Execution
from agentd.types import BashAction, Budgets, Usage
from agentd_cli.prompt.lines import LineError

from agentd_chat.attachments import AttachedFile
from agentd_chat.kept import ConversationFolder, KeptConversation, KeptTurn
from agentd_chat.pictures import keep_pictures, put_back

if TYPE_CHECKING:
    from agentd.protocols import Executor
    from agentd.session.run import Run
    from agentd_snapshots.snapshots import Snapshots

    from agentd_chat.changes import FileChanges

__all__ = ["Talk", "TalkSettings", "TurnOutcome", "Undone", "may_keep"]

_KEPT_TURNS: Final = 50
"""So many of the newest turns have checkpoints; older ones lose theirs, as many at a time."""
_UNDONE: Final = 20
"""So many of the newest checkpoints of what was taken back are kept."""
_JOB_LINES: Final = 5
_JOB_TIMEOUT_S: Final = 10.0


def may_keep(cwd: Path) -> bool:
    """Tell whether the folder is one that checkpoints are for: a home folder, or all of the disk, is not."""
    return not Path.home().resolve().is_relative_to(cwd.resolve())


@attrs.frozen(kw_only=True)
class TalkSettings:
    """What a talk is made with.

    :ivar session: arguments of `Session`, but those below; `registry`, `executor` and `snapshots` among them.
    :ivar history: how much of the conversation the model is told; None for agentd-history's default.
    :ivar images: show the model pictures.
    :ivar brought: pictures that go with the first message.
    :ivar max_cost_usd: for the whole conversation.
    :ivar checkpoints: keep the files as they are around each turn.
    """

    session: Mapping[str, Any]
    mode: str = "ptc"
    cwd: Path
    history: object | None = None
    images: bool = False
    brought: Sequence[AttachedFile] = ()
    instructions: str = ""
    max_turns: int = 20
    wall_time_s: float | None = 600.0
    max_cost_usd: float | None = None
    checkpoints: bool = True
    approver: object = None


@attrs.frozen(kw_only=True)
class TurnOutcome:
    """How a turn has ended: `error` if it failed, and what of its code ran to an end and what did not.

    :ivar turn: what is kept of it.
    :ivar withdrawn: nobody has answered the message, so it is as if it had not been said.
    """

    turn: KeptTurn
    end: RunEnd | None
    error: AgentdError | None = None
    withdrawn: bool = False
    done: tuple[Execution, ...] = ()
    stopped: tuple[Execution, ...] = ()


@attrs.frozen(kw_only=True)
class Undone:
    """What `undo` has taken back; `files` is False if there was no checkpoint, `kept_as` has what was until then, and
    `jobs` are the names of those that ran and were ended."""

    task: str
    files: bool
    kept_as: str = ""
    jobs: tuple[str, ...] = ()


class Talk:
    """One conversation. An async context manager, on asyncio.

    :param settings: what it is made with.
    :param folder: where it is kept.
    :param kept: the conversation; saved after every turn.
    """

    def __init__(self, settings: TalkSettings, folder: ConversationFolder, kept: KeptConversation) -> None:
        self.settings = settings
        self.kept = kept
        self.executor: Executor | None = None
        self._folder = folder
        self._given = dict(settings.session)
        self._session: Session | None = None
        self._run: Run | None = None
        self._store: Snapshots | None = None
        self._stop_asked = False
        self._said = 0  # messages before the turn
        self.notes: list[str] = []
        """What the person is to be told beside the events; whoever tells it empties the list."""

    # --- opening and closing -------------------------------------------------------------------------

    async def __aenter__(self) -> Talk:
        registry, wanted = self._given["registry"], self._given.get("executor")
        self.settings.cwd.mkdir(parents=True, exist_ok=True)
        if self.settings.mode == "ptc":
            # Ours rather than the session's: it goes on, shell and jobs, with the session of another model.
            self.executor = registry.create_executor(wanted, self.settings.cwd)
            self._given["executor"] = self.executor
        try:
            if self.settings.images:
                await call_in_thread(partial(put_back, self._folder, self.kept))
            self._session = await self._new_session().open()
            await self._restore_shell()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        try:
            if self._session is not None:
                await self._session.aclose()
        finally:
            if self.executor is not None:
                await self.executor.aclose()

    def _new_session(self) -> Session:
        from agentd_history import History

        settings = self.settings
        given = dict(self._given)
        if given.get("policy") is None:
            given.pop("policy", None)
        else:
            given["approver"] = settings.approver
        return Session(
            **given,
            mode=settings.mode,  # type: ignore[arg-type]
            cwd=settings.cwd,
            instructions=settings.instructions,
            budgets=Budgets(max_turns=settings.max_turns, wall_time_s=settings.wall_time_s),
            transcript=self.kept.transcript,
            history=History() if settings.history is None else settings.history,
            images=settings.images,
        )

    async def _restore_shell(self) -> None:
        if self.kept.shell is not None and isinstance(self.executor, ShellExecutor):
            await self.executor.set_shell_state(self.kept.shell)

    @property
    def session(self) -> Session:
        """The session. Raises `ConfigError` if the talk is not open."""
        if self._session is None:
            raise ConfigError("this Talk is not open: use `async with Talk(...)`")
        return self._session

    @property
    def model(self) -> str:
        """The name of the model."""
        wanted = self._given["model"]
        return str(wanted[0] if isinstance(wanted, tuple) else wanted)

    @property
    def place(self) -> str:
        """The name of the executor; empty if there is none."""
        return str(getattr(self.executor, "plugin_name", ""))

    # --- turns ---------------------------------------------------------------------------------------

    async def turn(
        self,
        told: str | list[dict[str, Any]],
        shown: str,
        emit: Callable[[Event], Awaitable[object] | None],
    ) -> TurnOutcome:
        """Have the model act on a message. `stop` ends it; what was done until then stays.

        :param told: the message; `shown` is what the record has of it.
        :param emit: gets the events; what it returns is awaited, so that the model waits for a slow reader.
        """
        self._stop_asked = False
        turn = KeptTurn(task=shown, before=await self._checkpoint())
        self.kept.pending = turn
        self._folder.save(self.kept)
        self._said = len(self.kept.transcript.messages)
        executed = len(self.kept.transcript.executions)
        end: RunEnd | None = None
        error: AgentdError | None = None
        spending = Spending(self._left_usd())
        before = around.set(spending)
        try:
            self._run = self.session.run(told)
            if self._stop_asked:
                await self._run.aclose()
            async for event in self._run:
                if isinstance(event, RunEnd):
                    end = event
                if (shown_later := emit(event)) is not None:
                    await shown_later
        except AgentdError as exc:
            error = exc
        finally:
            around.reset(before)
            if self._run is not None:
                await self._run.aclose()  # it goes on if `emit` has failed, or this was cancelled in it
            self._run = None
            turn.usage = spending.total()
            turn.stop_reason = "error" if error is not None else end.stop_reason if end else "cancelled"
            await self._end_turn(turn)
        ran = self.kept.transcript.executions[executed:]
        return TurnOutcome(
            turn=turn,
            end=end,
            error=error,
            withdrawn=self._is_withdrawn,
            done=tuple(one for one in ran if one.status not in ("cancelled", "rejected")),
            stopped=tuple(one for one in ran if one.status == "cancelled"),
        )

    async def stop(self) -> None:
        """End the turn that runs, and wait until its code is gone."""
        self._stop_asked = True
        if self._run is not None:
            await self._run.aclose()

    async def _end_turn(self, turn: KeptTurn) -> None:
        kept = self.kept
        kept.pending = None
        kept.model, kept.images = self.model, self.settings.images
        kept.spent += turn.usage
        kept.unpriced += bool(
            turn.usage.unpriced_requests or (turn.usage.requests and turn.usage.cost_usd is None)
        )
        if not self._is_withdrawn:
            turn.after = await self._checkpoint()
            kept.turns.append(turn)
        else:
            await self._delete([turn.before])
        if isinstance(self.executor, ShellExecutor):
            try:
                kept.shell = await self.executor.shell_state()
            except ExecutorError:
                kept.shell = None  # the runner has died: the next block gets a fresh shell
        self._folder.save(kept)
        if self.settings.images:
            await self._keep_pictures()
        await self._forget_old()

    async def _keep_pictures(self) -> None:
        try:
            await call_in_thread(partial(keep_pictures, self._folder, self.kept))
        except OSError as error:  # a full disk, say
            self.notes.append(f"pictures could not be kept with the conversation: {error}")

    @property
    def _is_withdrawn(self) -> bool:
        messages = self.kept.transcript.messages
        # A turn that was stopped before its run began has said nothing.
        return len(messages) == self._said or messages[-1].role == "withdrawn"

    def _left_usd(self) -> float | None:
        limit = self.settings.max_cost_usd
        return None if limit is None else limit - (self.kept.spent.cost_usd or 0.0)

    async def _checkpoint(self) -> str:
        if not self.settings.checkpoints:
            return ""
        try:
            return (await self.session.checkpoint()).id
        except SnapshotError as error:  # a full disk, say: the conversation itself can go on
            self.notes.append(f"no checkpoint could be kept, so /undo and /diff do without: {error}")
            return ""

    async def _forget_old(self) -> None:
        """Let go of the checkpoints of old turns; that of the conversation's beginning stays."""
        with_some = [turn for turn in self.kept.turns[1:] if turn.before]
        if len(with_some) < 2 * _KEPT_TURNS:
            return
        for turn in with_some[:_KEPT_TURNS]:
            await self._delete([turn.before, turn.after])
            turn.before = turn.after = ""
        self._folder.save(self.kept)

    async def _delete(self, checkpoints: Sequence[str]) -> None:
        for id in filter(None, checkpoints):
            try:
                await self.session.delete_checkpoint(id)
            except UnknownSnapshotError:
                continue

    # --- going back, and what has changed ------------------------------------------------------------

    async def undo(self) -> Undone:
        """Take the last turn back: files and shell if there is a checkpoint, and what was said."""
        if not self.kept.turns:
            raise LineError("there is no turn to take back")
        turn = self.kept.turns[-1]
        kept_as = ""
        jobs: tuple[str, ...] = ()
        if turn.before:
            kept_as = await self._checkpoint()  # files that were changed since would be lost
            jobs = await self._running_jobs()
            await self.session.rewind(turn.before)
        elif turn.stop_reason != "lost":
            await self.session.forget_last()
        self.kept.turns.pop()
        undone = [*self.kept.undone, *([kept_as] if kept_as else [])]
        self.kept.undone = undone[-_UNDONE:]
        if isinstance(self.executor, ShellExecutor):
            self.kept.shell = await self.executor.shell_state()
        self._folder.save(self.kept)
        # What was done is in `kept_as`, and where it began is now.
        await self._delete([turn.before, turn.after, *undone[:-_UNDONE]])
        return Undone(task=turn.task, files=bool(turn.before), kept_as=kept_as, jobs=jobs)

    async def changes(self, *, everything: bool) -> FileChanges:
        """Return what the last turn (`everything`: the conversation) has changed in files."""
        from agentd_chat.changes import read_changes

        turns = [turn for turn in self.kept.turns if turn.before]
        if not turns:
            why = "there is no turn yet" if self.settings.checkpoints else "no checkpoints are kept here"
            raise LineError(f"/diff: {why}")
        first, last = (turns[0] if everything else turns[-1]), turns[-1]
        after = last.after or await self._checkpoint()
        try:
            return await call_in_thread(partial(read_changes, await self._snapshots(), first.before, after))
        except UnknownSnapshotError as error:
            raise LineError(f"/diff: the checkpoint {error.wanted!r} was deleted") from None

    async def _snapshots(self) -> Snapshots:
        """Return the store that the session's checkpoints lie in."""
        from agentd_snapshots.snapshots import Snapshots

        if self._store is None:
            timeline = self._given["registry"].create_timeline(
                resources=self.session.resources,
                transcript=self.kept.transcript,
                store=self._given.get("snapshots", "packs"),
                base_dir=None,
                has_code=self.settings.mode == "ptc",
            )
            store = await call_in_thread(lambda: getattr(timeline, "snapshots", None))
            if not isinstance(store, Snapshots):
                raise LineError(
                    "/diff: needs the snapshot store 'packs', which compares; go without --snapshots"
                )
            self._store = store
        return self._store

    # --- another model, jobs -------------------------------------------------------------------------

    async def switch_model(self, name: str) -> None:
        """Go on with another model. Files, shell, jobs and the conversation stay; MCP servers are started anew.

        :raises AgentdError: if it cannot be had; the talk goes on with the one it had.
        """
        from agentd_cli.trial import try_plugin

        wanted = self._given["model"]
        options = dict(wanted[1]) if isinstance(wanted, tuple) else {}
        spec = (name, options) if options else name
        known = {key: self._given[key] for key in ("base_url", "api") if self._given.get(key) is not None}
        try_plugin(self._given["registry"], "model", spec, settings=known)
        before, self._given["model"] = wanted, spec
        try:
            new = await self._new_session().open()
        except BaseException:
            self._given["model"] = before
            raise
        old, self._session = self.session, new
        await old.aclose()
        self.kept.model = name
        if self.kept.turns:
            self._folder.save(self.kept)

    async def jobs(self) -> list[tuple[str, str]]:
        """Return the jobs, each a line of `job list` and the end of its output; the first line is the heading."""
        executor = self.executor
        if not isinstance(executor, JobExecutor):
            return []
        listed = (await self._bash(executor, "job list")).splitlines()
        told = [(listed[0], "")] if len(listed) > 1 else []
        for line in listed[1:]:
            name = line.split()[0] if line.split() else ""
            tail = await self._bash(executor, f"job out {shlex.quote(name)} --tail {_JOB_LINES}")
            told.append((line, tail))
        return told

    async def _running_jobs(self) -> tuple[str, ...]:
        """Return the names of the jobs that run."""
        executor = self.executor
        if not isinstance(executor, JobExecutor) or not self.kept.transcript.executions:
            return ()
        rows = [line.split() for line in (await self._bash(executor, "job list")).splitlines()[1:]]
        return tuple(row[0] for row in rows if row[1:2] == ["running"])

    async def _bash(self, executor: Executor, command: str) -> str:
        result = await executor.run(BashAction(command=f"command {command}", timeout_s=_JOB_TIMEOUT_S))
        return result.stdout.decode("utf-8", "replace")  # without what a new runner has to say

    # --- what it has cost ----------------------------------------------------------------------------

    @property
    def spent(self) -> Usage:
        """The usage of all turns, those that were taken back too."""
        return self.kept.spent

    def models(self) -> Sequence[str]:
        """The names of models that this talk has used."""
        return list(dict.fromkeys(filter(None, (self.model, self.kept.model))))

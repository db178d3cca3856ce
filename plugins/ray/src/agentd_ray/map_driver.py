"""The work of a map: hands its tasks out to sessions, tries again, keeps what comes of them."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

import anyio
import attrs
from agentd._concurrency.channel import Channel
from agentd._concurrency.pool import call_in_thread
from agentd.errors import AnswerError, ConfigError, PluginError
from agentd.events import RunEnd
from agentd.types import Usage

from agentd_ray.map_results import MapBudget, MapCounts, MapResult

if TYPE_CHECKING:
    from agentd_ray.map_journal import MapJournal
    from agentd_ray.map_progress import MapProgress
    from agentd_ray.map_records import ResultRecord
    from agentd_ray.map_tasks import MapTask

__all__ = ["MapDriver", "MapSession", "MapSessions", "SessionPast"]

GOES_ON: Final = (
    "[note: the program that gave you this task was stopped and has started again. The files, the shell and all that "
    "was said are as they were after your last finished turn. What you did after it is lost here, but may have had "
    "effects outside: look before you do such a thing again. Go on with the task.]"
)
_TRY_AGAIN: Final = frozenset({"provider_error", "error", "cancelled"})
# Another attempt would raise them again.
_HOPELESS: Final = (AnswerError, ConfigError, PluginError, TypeError)
_MOST_PAUSE_S: Final = 60.0
_log: Final = logging.getLogger("agentd.map")


@attrs.frozen(kw_only=True)
class SessionPast:
    """How far the conversation of a session is that was just opened.

    :ivar is_begun: True if its task has turns that are kept.
    :ivar answer: the answer, if the last task has one.
    """

    is_begun: bool = False
    answer: str | None = None


class MapSession(Protocol):
    """What a map needs of a session; `agentd.Session` has it."""

    def run(self, task: Any, *, output: Any = None) -> AsyncIterator[Any]: ...
    async def ask(self, task: Any) -> Any: ...
    async def aclose(self) -> None: ...


class MapSessions(Protocol):
    """What a map needs of a fleet: `agentd_ray.Fleet` and `agentd_ray.LocalFleet` have it."""

    @property
    def capacity(self) -> int:
        """How many sessions it has places for."""
        ...

    @property
    def store_url(self) -> str | None:
        """Where conversations are kept."""
        ...

    @property
    def session(self) -> Callable[..., Awaitable[Any]]:
        """Opens a session, with `conversation_id`, `files` and arguments of a session. If there is a conversation of
        that name, it goes on from its last checkpoint; else the files, bytes by path, are put into its workspace."""
        ...

    async def past_of(self, session: Any) -> SessionPast:
        """Return how far the conversation of a session is that was just opened."""
        ...


@attrs.frozen(kw_only=True)
class MapSettings:
    """What a `TaskMap` was asked for."""

    concurrency: int
    is_ordered: bool
    retries: int
    retry_pause_s: float
    budget: MapBudget
    output: Any
    form: Any
    prefix: str  # of the names of conversations; empty without a store
    options: Mapping[str, Any]


class MapDriver:
    """Does the work of one map. Its reader knows it, and it does not know its reader, so that a dropped one ends it.

    :ivar channel: the results, in the order in which they are to be given.
    """

    def __init__(
        self,
        fleet: MapSessions,
        tasks: Sequence[MapTask],
        settings: MapSettings,
        counts: MapCounts,
        progress: MapProgress,
        open_journal: Callable[[], MapJournal] | None,
    ) -> None:
        self.channel: Channel[MapResult] = Channel()
        self.counts = counts
        self._fleet = fleet
        self._tasks = tasks
        self._settings = settings
        self._progress = progress
        self._open_journal = open_journal
        self._journal: MapJournal | None = None
        self._began = 0.0
        self._error: BaseException | None = None
        self._early: dict[int, MapResult] = {}  # results in front of which one is missing
        self._next = 0

    async def begin(self) -> None:
        """Open the journal. Raises what that raises."""
        if self._open_journal is not None:
            self._journal = await call_in_thread(self._open_journal, unbounded=True)
        self._began = time.monotonic()
        self._progress.begin()

    async def drive(self) -> None:
        """Do all tasks, and close the channel."""
        try:
            waiting = [task for task in self._tasks if not self._take_known(task)]
            tasks = iter(waiting)
            async with anyio.create_task_group() as group:
                for _ in range(min(self._settings.concurrency, len(waiting))):
                    group.start_soon(self._work, tasks, group.cancel_scope)
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException as error:
            self._error = error
        finally:
            self.channel.close(self._error)

    async def end(self) -> None:
        """Let the map's name go."""
        self.channel.close()
        self._progress.end()
        if (journal := self._journal) is not None:
            await call_in_thread(journal.close, unbounded=True)

    # --- one task after the other

    async def _work(self, tasks: Iterator[MapTask], scope: anyio.CancelScope) -> None:
        try:
            for task in tasks:
                await self.channel.flow()
                if spent := self._spent():
                    self._give(self._not_done(task, spent))
                else:
                    await self._do(task)
        except Exception as error:  # the journal's: no result counts that it does not have
            self._error = self._error or error
            scope.cancel()

    async def _do(self, task: MapTask) -> None:
        self.counts.running += 1
        self._progress.update()
        try:
            result = await self._tried(task)
            if self._journal is not None:
                await self._journal.add(_record_of(task, result))
        finally:
            self.counts.running -= 1
        self._give(result)

    async def _tried(self, task: MapTask) -> MapResult:
        began, pause_s, earlier = time.monotonic(), self._settings.retry_pause_s, Usage()
        for attempt in range(1, self._settings.retries + 2):
            found = await self._attempt(task)
            # A conversation that is gone on with knows what its earlier attempts have used.
            usage = found.usage if self._settings.prefix else earlier + found.usage
            found = attrs.evolve(found, attempts=attempt, seconds=time.monotonic() - began, usage=usage)
            earlier = usage
            is_hopeless = isinstance(found.exception, _HOPELESS)
            if found.status != "failed" or is_hopeless or attempt > self._settings.retries or self._spent():
                break
            _log.warning("the task %r is tried again: %s", found.id, found.error)
            self.counts.retries += 1
            await anyio.sleep(pause_s)
            pause_s = min(2 * pause_s, _MOST_PAUSE_S)
        return found

    async def _attempt(self, task: MapTask) -> MapResult:
        """Try a task once. What that raises is in the result; cancellation passes."""
        settings = self._settings
        conversation = task.conversation(settings.prefix) if settings.prefix else ""
        session: Any = None
        result = MapResult(
            index=task.index, id=task.id, task=task.given, status="failed", conversation=conversation
        )
        try:
            options = {**settings.options, **task.options}
            if task.tools is not None:
                options["tools"] = task.tools
            session = await self._fleet.session(
                conversation_id=conversation or None, files=task.files, **options
            )
            result = self._read(result, await self._asked(session, task))
        except Exception as error:
            result = attrs.evolve(result, error=f"{type(error).__name__}: {error}", exception=error)
        finally:
            if session is not None:
                with anyio.CancelScope(shield=True):
                    await _close(session, task.id)
        used = getattr(session, "usage", None)
        return attrs.evolve(result, usage=used) if isinstance(used, Usage) else result

    async def _asked(self, session: Any, task: MapTask) -> RunEnd:
        """Have a session answer the task: from its beginning, from where it is, or with the answer that is there."""
        form, output = self._settings.form, self._settings.output
        past = await self._fleet.past_of(session) if self._settings.prefix else SessionPast()
        if past.answer is not None and (form is None or not form.review(past.answer)):
            return RunEnd(text=past.answer)
        told = GOES_ON if past.is_begun and past.answer is None else task.task
        if output is None:
            return await session.ask(told)
        end = RunEnd(stop_reason="error", error="the run gave no end")
        async for event in session.run(told, output=output):
            if isinstance(event, RunEnd):
                end = event
        return end

    def _read(self, result: MapResult, end: RunEnd) -> MapResult:
        status: Any = "answered" if end.stop_reason == "answer" else "stopped"
        if end.stop_reason in _TRY_AGAIN:
            status = "failed"
        value = self._settings.form.read(end.text) if self._settings.form and status == "answered" else None
        return attrs.evolve(
            result,
            status=status,
            text=end.text,
            value=value,
            stop_reason=end.stop_reason,
            error=end.error or ("" if status != "failed" else f"the run ended with {end.stop_reason!r}"),
            turns=end.turns,
            usage=end.usage,
        )

    # --- what is given

    def _spent(self) -> str:
        seconds, counts = time.monotonic() - self._began, self.counts
        return self._settings.budget.spent(counts.usage, seconds=seconds, failures=counts.failed)

    def _take_known(self, task: MapTask) -> bool:
        """Give the result that an earlier run has; False if this one has to find it."""
        record = None if self._journal is None else self._journal.known(task)
        if record is None:
            return False
        result = _result_of(task, record)
        if result.status == "answered" and self._settings.form is not None:
            try:
                result = attrs.evolve(result, value=self._settings.form.read(result.text))
            except AnswerError:  # another output than then: its conversation is asked again
                return False
        if result.is_final:
            self._give(result)
        return result.is_final

    def _not_done(self, task: MapTask, why: str) -> MapResult:
        known = None if self._journal is None else self._journal.known(task)
        used = Usage() if known is None else known.used()
        conversation = task.conversation(self._settings.prefix) if known is not None else ""
        return MapResult(
            index=task.index,
            id=task.id,
            task=task.given,
            status="not_done",
            error=f"it was not handed out: {why}",
            usage=used,
            conversation=conversation,
        )

    def _give(self, result: MapResult) -> None:
        self.counts.count(result)
        self._progress.update()
        if not self._settings.is_ordered:
            self.channel.put(result)
            return
        self._early[result.index] = result
        while (ready := self._early.pop(self._next, None)) is not None:
            self._next += 1
            self.channel.put(ready)


async def _close(session: Any, id: str) -> None:
    try:
        await session.aclose()
    except Exception:  # its answer is there, or its error
        _log.exception("the session of the task %r was not closed as it should be", id)


def _record_of(task: MapTask, result: MapResult) -> ResultRecord:
    from agentd_ray.map_records import ResultRecord

    return ResultRecord(
        id=task.id,
        digest=task.digest,
        status=result.status,
        text=result.text,
        stop_reason=result.stop_reason,
        error=result.error,
        turns=result.turns,
        attempts=result.attempts,
        seconds=round(result.seconds, 3),
        conversation=result.conversation,
        usage=attrs.asdict(result.usage),
    )


def _result_of(task: MapTask, record: ResultRecord) -> MapResult:
    status: Any = record.status
    return MapResult(
        index=task.index,
        id=task.id,
        task=task.given,
        status=status,
        text=record.text,
        stop_reason=record.stop_reason,
        error=record.error,
        turns=record.turns,
        attempts=record.attempts,
        seconds=record.seconds,
        usage=record.used(),
        conversation=record.conversation,
        is_from_journal=True,
    )

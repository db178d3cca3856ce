"""One agent of the daemon: takes its triggers one after the other and works on them in one session."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeVar

import anyio
import attrs
from agentd._concurrency.pool import call_in_thread
from agentd.errors import (
    AgentdError,
    ConfigError,
    ContextLengthError,
    ModelError,
    PluginError,
    SandboxUnavailableError,
)
from agentd.events import Event, RunEnd, TurnEnd
from agentd.registry import Registry
from agentd.session.session import Session
from agentd.turn.transcript import Message, Transcript
from agentd_tools.backoff import Backoff

from agentd_daemon.config.values import AgentConfig
from agentd_daemon.control import AgentState, AgentStatus
from agentd_daemon.conversation import ask_apart, is_unfinished, take_back
from agentd_daemon.history import bound, tokens
from agentd_daemon.journal import Journal, JournalError, SettledState, Trigger
from agentd_daemon.sessions import make_session, model_settings
from agentd_daemon.sources import ServerShare
from agentd_daemon.state import StateFolder
from agentd_daemon.telling import mark_of, task_of

__all__ = ["AgentWorker"]

log = logging.getLogger("agentd.daemon")

T = TypeVar("T")
OnEvent = Callable[[str, Event], None]
HOPELESS: Final = (ConfigError, PluginError, SandboxUnavailableError)
"""Errors that trying again does not mend: a person must."""
NOT_ADMITTED: Final = (401, 402, 403)
"""HTTP statuses of a provider that refuses whatever it is asked: the key is wrong, or its credit used up."""
REFUSED: Final = (400, 404, 413, 422)
"""HTTP statuses of a provider that refuses this one request, however often it comes."""
QUIET_S: Final = 1.0
"""After so long without work, what waits for the disk may be done."""
KEPT_TRIGGERS: Final = 1000
PRUNE_EVERY: Final = 100
RESULT_CHARS: Final = 20_000
"""Of an answer, what the journal keeps."""


class _Cancelled(Exception):
    """A person has ended the turn."""


class AgentWorker:
    """Works on one agent's triggers, in the order in which they were accepted.

    A trigger stays in the journal until it is done, also over failures and the end of the process. The conversation
    is journalled after every turn.

    :param shares: the agent's servers; they stay the caller's.
    :param on_event: gets the events of all runs, in the loop.
    """

    def __init__(
        self,
        config: AgentConfig,
        *,
        journal: Journal,
        folder: StateFolder,
        shares: list[ServerShare],
        registry: Registry,
        on_event: OnEvent,
    ) -> None:
        self.config = config
        self.name = config.name
        self.shares = shares
        self.session: Session | None = None
        self._journal = journal
        self._folder = folder
        self._registry = registry
        self._on_event = on_event
        self._state: AgentState = "starting"
        self._wake = anyio.Event()
        self._resumed = anyio.Event()
        self.parked = anyio.Event()
        """Set when the agent was parked for the first time."""
        self._turn: anyio.CancelScope | None = None
        self._leaving = False
        self._backoff = Backoff(first_s=config.on_error.backoff_s, longest_s=config.on_error.max_backoff_s)
        self._status = AgentStatus(name=config.name, state="starting", queued=0, model=config.model_name)
        self._queued: int | None = None
        self._said_before = 0
        self._measured: Message | None = None
        """The last message of a conversation that is known to be short enough."""
        self._subscriptions = {s.uri: s for s in reversed(config.wakers())}
        self._handled = 0
        self._is_prepared = False
        self._is_flushed = True
        self.failures = 0
        """Triggers that were given up, or ended without an answer."""

    # --- what can be asked -------------------------------------------------------------------------

    @property
    def status(self) -> AgentStatus:
        """How the agent is now."""
        if self._queued is None:
            counts = self._journal.counts(self.name)
            self._queued = counts.get("pending", 0) + counts.get("interrupted", 0)
        servers = tuple(share.status for share in self.shares)
        return attrs.evolve(self._status, state=self._state, queued=self._queued, servers=servers)

    @property
    def transcript(self) -> Transcript:
        """The conversation so far."""
        if self.session is not None:
            return self.session.transcript
        return self._journal.load_transcript(self.name) or Transcript()

    def wake(self) -> None:
        """Say that a trigger was accepted."""
        self._queued = None
        self._wake.set()

    def cancel_turn(self) -> bool:
        """End the run that is under way; False if there is none."""
        if self._turn is None:
            return False
        self._turn.cancel()
        return True

    def resume(self) -> bool:
        """Let a parked or waiting agent try again now; False if it is neither."""
        if self._state not in ("parked", "retrying"):
            return False
        self._backoff.reset()
        self._resumed.set()
        return True

    def leave(self) -> None:
        """Have `run` return as soon as nothing is being worked on."""
        self._leaving = True
        self._wake.set()
        self._resumed.set()

    # --- working -----------------------------------------------------------------------------------

    async def run(self, *, until_empty: bool = False) -> None:
        """Work until told to leave, or cancelled; or until there is no trigger any more.

        :raises AgentdError: if the agent cannot work at all (a wrong setting, a workspace that cannot be used).
        """
        while not self._leaving:
            try:
                await self._work(until_empty)
                break
            except HOPELESS as error:
                if (trigger := self._journal.next_trigger(self.name)) is None:  # the supervisor tells it
                    raise
                await self._kept(partial(self._journal.begin, trigger.id))
                await self._park(trigger, str(error))

    async def _work(self, until_empty: bool) -> None:
        async with make_session(
            self.config,
            folder=self._folder,
            shares=self.shares,
            registry=self._registry,
            transcript=self.transcript,
            sink=_Listener(self),
        ) as session:
            self.session = session
            try:
                await self._kept(lambda: self._journal.interrupt(self.name))  # of a worker that broke off
                while not self._leaving:
                    self._wake = anyio.Event()
                    trigger = self._journal.next_trigger(self.name)
                    if trigger is None and until_empty:
                        return
                    if trigger is None:
                        await self._rest(session)
                    else:
                        await self._work_on(session, trigger)
            finally:
                self.session = None
                self._state = "stopped"

    async def _rest(self, session: Session) -> None:
        """Wait for a trigger, and do meanwhile what would hold one up."""
        self._state, self._queued = "idle", None
        async with anyio.create_task_group() as group:
            group.start_soon(self._use_rest, session)
            await self._wake.wait()
            group.cancel_scope.cancel()

    async def _use_rest(self, session: Session) -> None:
        if not self._is_prepared:
            await self._prepare(session)
        messages = session.transcript.messages
        if messages and tokens(messages) <= self.config.history.max_tokens:
            self._measured = messages[-1]
        if not self._is_flushed:
            await anyio.sleep(QUIET_S)
            try:
                await call_in_thread(self._journal.checkpoint, abandon=True)
            except JournalError as error:  # nothing depends on it
                log.warning("%s: %s", self.name, error)
            self._is_flushed = True

    async def _prepare(self, session: Session) -> None:
        """List the tools and make the model's client, so that the first task need not wait for that."""
        try:
            await session.prepare()
        except Exception as error:  # a plugin's boundary; the first task meets it again
            text = str(error) or type(error).__name__
            known = isinstance(error, AgentdError)
            log.warning("%s: not ready for work: %s", self.name, text, exc_info=None if known else error)
        self._is_prepared = True

    async def _work_on(self, session: Session, trigger: Trigger) -> None:
        trigger = await self._kept(lambda: self._journal.begin(trigger.id))
        self._state, self._queued, self._is_flushed = "running", None, False
        self._status = attrs.evolve(self._status, current=trigger.id, next_try_at=None)
        try:
            end = await self._attempt(session, trigger)
        except _Cancelled:
            await self._settle(trigger, state="done", error="cancelled by a person")
        except Exception as error:
            if not isinstance(error, AgentdError):  # a plugin's boundary, or a defect: the others go on
                log.exception("%s: working on %s failed", self.name, trigger.id)
            await self._failed(session, trigger, error)
        else:
            await self._done(session, trigger, end)
        finally:
            self._status = attrs.evolve(self._status, current="")
            self._try_to_save()

    async def _attempt(self, session: Session, trigger: Trigger) -> RunEnd:
        self._said_before = len(session.transcript.messages)
        with anyio.CancelScope() as self._turn:
            try:
                if not self._is_measured(session):
                    await self._shorten(session, self.config.history.max_tokens)
                try:
                    return await self._ask(session, trigger)
                except ContextLengthError as exc:  # its tokens are other than our estimate
                    log.warning("%s: %s", self.name, exc)
                    if not await self._shorten(session, tokens(session.transcript.messages) - 1):
                        raise
                    return await self._ask(session, trigger)
            finally:
                self._turn = None
        raise _Cancelled

    async def _ask(self, session: Session, trigger: Trigger) -> RunEnd:
        messages = session.transcript.messages
        self._said_before = len(messages)
        goes_on = trigger.attempts > 1 and is_unfinished(messages, mark_of(trigger))
        subscription = self._subscriptions.get(trigger.uri)
        max_chars = self.config.budgets.max_result_chars
        end = await session.ask(task_of(trigger, subscription, max_chars, goes_on=goes_on))
        return self._answered(end, messages)

    def _answered(self, end: RunEnd, messages: Sequence[Message]) -> RunEnd:
        """Return the end of a run, unless its time ran out while the provider kept silent."""
        answers = sum(message.role == "answer" for message in messages[self._said_before :])
        if end.stop_reason == "wall_time" and answers < end.turns:
            raise ModelError(
                f"model {self.config.model_name!r}: its provider said nothing until the time of the task was over "
                f"(`wall_time_s`: {self.config.budgets.wall_time_s:g}); a `timeout` in `model_options` gives up sooner"
            )
        return end

    async def _done(self, session: Session, trigger: Trigger, end: RunEnd) -> None:
        answered = end.stop_reason == "answer"
        why = f" ({end.error})" if end.error else ""
        error = "" if answered else f"ended without an answer: {end.stop_reason}{why}"
        self.failures += not answered
        self._backoff.reset()
        result = end.text[:RESULT_CHARS]
        await self._settle(trigger, state="done" if answered else "failed", result=result, error=error)
        if self.config.checkpoints:
            try:
                await session.checkpoint()
            except AgentdError as exc:
                log.warning("%s: no checkpoint of %s could be kept: %s", self.name, trigger.id, exc)

    async def _settle(
        self, trigger: Trigger, *, state: SettledState, result: str = "", error: str = ""
    ) -> None:
        await self._kept(self._save)
        trigger = await self._kept(
            lambda: self._journal.settle(trigger.id, state=state, result=result, error=error)
        )
        self._status = attrs.evolve(
            self._status,
            last_result=trigger.result or self._status.last_result,
            last_error=trigger.error,
            last_at=trigger.ended_at,
        )
        self._handled += 1
        if self._handled % PRUNE_EVERY == 0:
            await self._kept(lambda: self._journal.prune(self.name, KEPT_TRIGGERS))
        ending = f": {trigger.error}" if trigger.error else ""
        log.info("%s: %s %s%s", self.name, trigger.id, trigger.state, ending)

    # --- failures ----------------------------------------------------------------------------------

    async def _failed(self, session: Session, trigger: Trigger, error: Exception) -> None:
        """Try again later; after the last retry, skip the trigger or park the agent with it. What trying again cannot
        mend fails at once, or parks the agent if that concerns whatever it asks."""
        text = str(error) or type(error).__name__
        self._status = attrs.evolve(self._status, last_error=text)
        try:
            await take_back(session, self._said_before)
        except AgentdError:  # the model cannot even be made: that is the failure that is told
            pass
        await self._kept(self._save)
        rule, status = self.config.on_error, getattr(error, "status", None)
        if status in REFUSED:  # the next task may be another matter
            self.failures += 1
            self._backoff.reset()
            await self._settle(trigger, state="failed", error=text)
            return
        # The next task would fail the same way: nothing is skipped.
        hopeless = isinstance(error, HOPELESS) or status in NOT_ADMITTED
        if not hopeless and self._backoff.tries < rule.retries:
            await self._kept(lambda: self._journal.retry_later(trigger.id, text))
            wished_s = min(getattr(error, "retry_after_s", None) or 0.0, rule.max_backoff_s)
            await self._pause("retrying", text, max(self._backoff.next_s(), wished_s))
            return
        if rule.then == "skip" and not hopeless:
            self.failures += 1
            self._backoff.reset()
            await self._settle(trigger, state="skipped", error=text)
        else:
            await self._park(trigger, text)

    async def _park(self, trigger: Trigger, text: str) -> None:
        self.failures += 1
        self._status = attrs.evolve(self._status, last_error=text)
        await self._kept(lambda: self._journal.retry_later(trigger.id, text))
        await self._pause("parked", text, None)

    async def _pause(self, state: AgentState, error: str, wait_s: float | None) -> None:
        self._state, self._queued = state, None
        self._resumed = anyio.Event()
        if wait_s is None:
            name = self.name
            log.error(
                "%s: parked: %s; /resume %s in the prompt, or a restart, tries again", name, error, name
            )
        else:
            log.warning("%s: will try again in %.1f s: %s", self.name, wait_s, error)
            self._status = attrs.evolve(self._status, next_try_at=time.time() + wait_s)
        if self._leaving:
            return
        if state == "parked":
            self.parked.set()
        with anyio.move_on_after(float("inf") if wait_s is None else wait_s):
            await self._resumed.wait()
        self._status = attrs.evolve(self._status, next_try_at=None)

    # --- the conversation --------------------------------------------------------------------------

    def _is_measured(self, session: Session) -> bool:
        messages = session.transcript.messages
        return bool(messages) and messages[-1] is self._measured

    async def _shorten(self, session: Session, max_tokens: int) -> bool:
        """Shorten the conversation if it is longer than so much, and tell whether that was done."""
        rule = self.config.history
        shorter = await bound(
            session.transcript,
            rule=rule.rule,
            max_tokens=max_tokens,
            keep_turns=rule.keep_turns,
            summarise=self._summarise,
        )
        if shorter is not None:
            await session.continue_from(shorter)
            self._try_to_save()
        return shorter is not None

    async def _summarise(self, text: str) -> str:
        """Ask the agent's own model."""
        return await ask_apart(self._registry, model_settings(self.config), text)

    def hear(self, event: Event) -> None:
        """Take an event of the session."""
        if isinstance(event, TurnEnd):
            used = self._status.usage + event.usage
            self._status = attrs.evolve(self._status, turns=self._status.turns + 1, usage=used)
            self._try_to_save(event)
        self._on_event(self.name, event)

    # --- the journal -------------------------------------------------------------------------------

    async def _kept(self, write: Callable[[], T]) -> T:
        """Write into the journal. As long as the disk is full, wait: what was done must not be done again for that.

        :raises JournalError: if that is not what is wrong, or the agent is to leave.
        """
        backoff, state = Backoff(first_s=1.0, longest_s=60.0), self._state
        while True:
            try:
                done = write()
            except JournalError as error:
                if error.errno != errno.ENOSPC or self._leaving:
                    raise
                self._status = attrs.evolve(self._status, last_error=str(error))
                await self._pause("retrying", str(error), backoff.next_s())
            else:
                self._state = state
                return done

    def _save(self) -> None:
        if self.session is not None:
            self._journal.save_transcript(self.name, self.session.transcript)

    def _try_to_save(self, turn: TurnEnd | None = None) -> None:
        """Save what can be saved. What cannot is saved with the end of the task, which waits for that."""
        try:
            self._save()
            if turn is not None and self._status.current:
                self._journal.note_turn(self._status.current, turn.turn, turn.usage)
        except JournalError as error:
            log.warning("%s: %s", self.name, error)


class _Listener:
    """The event sink through which a worker hears of its session."""

    def __init__(self, worker: AgentWorker) -> None:
        self._worker = worker

    def emit(self, event: Event) -> None:
        self._worker.hear(event)

    def close(self) -> None:
        """Nothing is held open."""

"""One agent of the daemon: takes its triggers one after the other and works on them in one session."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Final

import anyio
import attrs
from agentd._concurrency.pool import call_in_thread
from agentd.errors import AgentdError, AnswerError, ContextLengthError
from agentd.events import CodeStart, Event, RunEnd, ToolCall, TurnEnd
from agentd.registry import Registry
from agentd.turn.transcript import Message, Transcript
from agentd_history.bounding import tokens
from agentd_tools.backoff import Backoff

from agentd_daemon.answers import answer_of, answer_schema, ask_for_answer
from agentd_daemon.approver import approver_options
from agentd_daemon.asking import AgentQuestions
from agentd_daemon.condition import AgentCondition
from agentd_daemon.config.values import AgentConfig
from agentd_daemon.control import AgentStatus
from agentd_daemon.conversation import bill_of, is_unfinished, shorten, take_back, with_an_answer
from agentd_daemon.failures import HOPELESS, TaskCancelledError, TaskParkedError, is_hopeless, is_refused
from agentd_daemon.journal import Journal, JournalError, SettledState, Trigger
from agentd_daemon.own_wakes import OwnWakes
from agentd_daemon.places import AgentPlace, AgentSession
from agentd_daemon.sessions import make_session, open_apart, try_to_checkpoint, try_to_prepare
from agentd_daemon.sources import ServerShare
from agentd_daemon.state import StateFolder
from agentd_daemon.telling import mark_of, task_of

__all__ = ["AgentWorker"]

log = logging.getLogger("agentd.daemon")

OnEvent = Callable[[str, Event], None]
QUIET_S: Final = 1.0
"""After so long without work, what waits for the disk may be done."""
KEPT_TRIGGERS: Final = 1000
PRUNE_EVERY: Final = 100
RESULT_CHARS: Final = 20_000
"""Of an answer that need not fit a schema, what the journal keeps."""


class AgentWorker:
    """Works on one agent's triggers, in the order in which they were accepted.

    A trigger stays in the journal until it is done, also over failures and the end of the process. The conversation
    is journalled after every turn.

    :param shares: the agent's servers; they stay the caller's.
    :param on_event: gets the events of all runs, in the loop.
    :param place: where its session is, if not in this process.
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
        place: AgentPlace | None = None,
    ) -> None:
        self.config = config
        self.name = config.name
        self.shares = shares
        self.session: AgentSession | None = None
        self._journal = journal
        self._folder = folder
        self._registry = registry
        self._place = place
        self._on_event = on_event
        self._wake = anyio.Event()
        self._turn: anyio.CancelScope | None = None
        self._backoff = Backoff(first_s=config.on_error.backoff_s, longest_s=config.on_error.max_backoff_s)
        self._condition = AgentCondition(config, journal)
        self.wakes = OwnWakes(config.name)
        self.parked = self._condition.parked
        """Set when the agent was parked for the first time."""
        self._said_before = 0
        self._measured: Message | None = None
        """The last message of a conversation that is known to be short enough."""
        self.questions = AgentQuestions(
            config.name, journal, approver_options(config.approver), on_due=self.cancel_turn
        )
        self._subscriptions = {s.uri: s for s in reversed(config.wakers())}
        self._handled = 0
        self.settled = anyio.Event()
        """Set when a task has ended; then there is another one."""
        self._is_prepared = False
        self._is_flushed = True
        self.failures = 0
        """Triggers that were given up, or ended without an answer."""

    # --- what can be asked -------------------------------------------------------------------------

    @property
    def status(self) -> AgentStatus:
        """How the agent is now."""
        status = self._condition.status
        return attrs.evolve(
            status,
            last_error=status.last_error or self.wakes.notice,
            servers=tuple(share.status for share in self.shares),
            questions=self.questions.ids,
            node=getattr(self.session, "node", ""),
        )

    @property
    def transcript(self) -> Transcript:
        """The conversation so far."""
        if self.session is not None:
            return self.session.transcript
        return self._journal.load_transcript(self.name) or Transcript()

    def wake(self) -> None:
        """Say that a trigger was accepted."""
        self._condition.queue_changed()
        self._wake.set()

    def cancel_turn(self) -> bool:
        """End the run that is under way; False if there is none."""
        if self._turn is None:
            return False
        self._turn.cancel()
        return True

    def resume(self) -> bool:
        """Let a parked or waiting agent try again now, also without an answer, and what was set aside go on; False if
        there is neither."""
        if released := self.wakes.release():
            self._wake.set()
        if not self._condition.resume():
            return released
        self._backoff.reset()
        return True

    def leave(self) -> None:
        """Have `run` return as soon as nothing is being worked on."""
        self._condition.leave()
        self._wake.set()

    # --- working -----------------------------------------------------------------------------------

    async def run(self, *, until_empty: bool = False) -> None:
        """Work until told to leave, or cancelled; or until there is no trigger any more.

        :raises AgentdError: if the agent cannot work at all (a wrong setting, a workspace that cannot be used).
        """
        while not self._condition.is_leaving:
            try:
                if await self._await_answers(until_empty):
                    continue
                await self._work(until_empty)
                break
            except TaskParkedError:
                continue
            except HOPELESS as error:
                if (trigger := self._next()) is None:  # the supervisor tells it
                    raise
                await self._condition.kept(partial(self._journal.begin, trigger.id))
                await self._park(trigger, str(error))

    async def _await_answers(self, until_empty: bool) -> bool:
        """If the next task waits for a person's answer, wait with it, without a session; tell whether it did."""
        trigger = self._next()
        if trigger is None or not self.questions.waited_for(trigger.id):
            return False
        resumed = self._condition.waits("waiting")
        log.warning("%s: %s waits for an answer: /approvals, or `agentd approvals`", self.name, trigger.id)
        if until_empty:
            self.failures += 1
            self.leave()
        await self.questions.answered(trigger.id, resumed)
        if not self._condition.is_leaving:
            await self._condition.kept(lambda: self._journal.unpark(trigger.id))
        return True

    async def _work(self, until_empty: bool) -> None:
        async with make_session(
            self.config,
            folder=self._folder,
            shares=self.shares,
            registry=self._registry,
            transcript=self.transcript,
            hear=self.hear,
            approver=self.questions.approver,
            place=self._place,
        ) as session:
            self.session = session
            try:
                # Of a worker that broke off.
                await self._condition.kept(lambda: self._journal.interrupt(self.name))
                while not self._condition.is_leaving:
                    self._wake = anyio.Event()
                    trigger = self._next()
                    if trigger is None and until_empty:
                        return
                    if trigger is None:
                        await self._rest(session)
                    else:
                        await self._work_on(session, trigger)
            finally:
                self.session = None
                self._condition.becomes("stopped")

    def _next(self) -> Trigger | None:
        """Return the next task; those of an agent that seems to wake itself wait."""
        return self._journal.next_trigger(self.name, but=self.wakes.held)

    async def _rest(self, session: AgentSession) -> None:
        """Wait for a trigger, and do meanwhile what would hold one up."""
        self._condition.becomes("idle")
        async with anyio.create_task_group() as group:
            group.start_soon(self._use_rest, session)
            with anyio.move_on_after(self.wakes.wait_s):
                await self._wake.wait()
            group.cancel_scope.cancel()

    async def _use_rest(self, session: AgentSession) -> None:
        if not self._is_prepared:
            # The first task need not wait for the list of tools, the model's client and a sandbox.
            await try_to_prepare(session, self.name)
            self._is_prepared = True
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

    async def _work_on(self, session: AgentSession, trigger: Trigger) -> None:
        if end := await answer_of(session, trigger, self.config.answer):
            await self._done(session, trigger, end)
            return
        trigger = await self._condition.kept(lambda: self._journal.begin(trigger.id))
        self._is_flushed = False
        self._condition.becomes("running", current=trigger.id, next_try_at=None)
        try:
            self.questions.begin(trigger.id)
            end = await self._attempt(session, trigger)
        except TaskParkedError:
            await self._set_aside(session, trigger)
            raise
        except TaskCancelledError:
            await self._settle(trigger, state="done", error="cancelled by a person")
        except Exception as error:
            if not isinstance(error, AgentdError):  # a plugin's boundary, or a defect: the others go on
                log.exception("%s: working on %s failed", self.name, trigger.id)
            await self._failed(session, trigger, error)
        else:
            await self._done(session, trigger, end)
        finally:
            self.questions.end()
            self._condition.tell(current="")
            self._try_to_save()

    async def _set_aside(self, session: AgentSession, trigger: Trigger) -> None:
        """Keep a task until there is an answer."""
        await take_back(session, self._said_before)
        await self._condition.kept(self._save)
        await self._condition.kept(lambda: self._journal.park(trigger.id))
        await self._condition.kept(lambda: self._journal.retry_later(trigger.id, "waiting for an answer"))

    async def _attempt(self, session: AgentSession, trigger: Trigger) -> RunEnd:
        self._said_before, parked = len(session.transcript.messages), False
        self.wakes.begin(trigger.id)
        with anyio.CancelScope() as self._turn, bill_of(trigger, self._journal, self.config):
            try:
                if not self._is_measured(session):
                    await self._shorten(session, self.config.history.max_tokens)
                try:
                    end = await self._ask(session, trigger)
                except ContextLengthError as exc:  # its tokens are other than our estimate
                    log.warning("%s: %s", self.name, exc)
                    if not await self._shorten(session, tokens(session.transcript.messages) - 1):
                        raise
                    end = await self._ask(session, trigger)
                parked = self.questions.must_wait(end.stop_reason)
                if not parked:
                    return end
            finally:
                self._turn = None
                self.wakes.end()
        raise TaskParkedError if parked or self.questions.is_due else TaskCancelledError

    async def _ask(self, session: AgentSession, trigger: Trigger) -> RunEnd:
        messages = session.transcript.messages
        self._said_before = len(messages)
        goes_on = trigger.attempts > 1 and is_unfinished(messages, mark_of(trigger))
        subscription = self._subscriptions.get(trigger.uri)
        max_chars = self.config.budgets.max_result_chars
        asked = self._journal.questions_of(trigger.id) if trigger.attempts > 1 else ()
        task = task_of(trigger, subscription, max_chars, goes_on=goes_on, questions=asked)
        end = await ask_for_answer(session, task, answer_schema(self.config.answer), trigger)
        return with_an_answer(end, session.transcript.messages[self._said_before :], self.config)

    async def _done(self, session: AgentSession, trigger: Trigger, end: RunEnd) -> None:
        answered = end.stop_reason == "answer"
        why = f" ({end.error})" if end.error else ""
        error = "" if answered else f"ended without an answer: {end.stop_reason}{why}"
        self.failures += not answered
        self._backoff.reset()
        result = end.text if answered and self.config.answer is not None else end.text[:RESULT_CHARS]
        await self._settle(trigger, state="done" if answered else "failed", result=result, error=error)
        if self.config.checkpoints:
            await try_to_checkpoint(session, f"{self.name}: {trigger.id}")

    async def _settle(
        self, trigger: Trigger, *, state: SettledState, result: str = "", error: str = ""
    ) -> None:
        await self._condition.kept(self._save)
        trigger = await self._condition.kept(
            lambda: self._journal.settle(trigger.id, state=state, result=result, error=error)
        )
        result = trigger.result or self._condition.last_result
        self._condition.tell(last_result=result, last_error=trigger.error, last_at=trigger.ended_at)
        self._handled += 1
        self.settled.set()
        self.settled = anyio.Event()
        if self._handled % PRUNE_EVERY == 0:
            await self._condition.kept(lambda: self._journal.prune(self.name, KEPT_TRIGGERS))
        ending = f": {trigger.error}" if trigger.error else ""
        log.info("%s: %s %s%s", self.name, trigger.id, trigger.state, ending)

    # --- failures ----------------------------------------------------------------------------------

    async def _failed(self, session: AgentSession, trigger: Trigger, error: Exception) -> None:
        """Try again later; after the last retry, skip the trigger or park the agent with it. What trying again cannot
        mend fails at once, or parks the agent if that concerns whatever it asks."""
        text = str(error) or type(error).__name__
        self._condition.tell(last_error=text)
        await take_back(session, self._said_before)
        await self._condition.kept(self._save)
        rule = self.config.on_error
        if is_refused(error) or isinstance(error, AnswerError):  # the next task may be another matter
            self.failures += 1
            self._backoff.reset()
            said = getattr(error, "text", "")[:RESULT_CHARS]
            await self._settle(trigger, state="failed", result=said, error=text)
            return
        hopeless = is_hopeless(error)  # the next task would fail the same way: nothing is skipped
        if not hopeless and self._backoff.tries < rule.retries:
            await self._condition.kept(lambda: self._journal.retry_later(trigger.id, text))
            wished_s = min(getattr(error, "retry_after_s", None) or 0.0, rule.max_backoff_s)
            await self._condition.pause("retrying", text, max(self._backoff.next_s(), wished_s))
            return
        if rule.then == "skip" and not hopeless:
            self.failures += 1
            self._backoff.reset()
            await self._settle(trigger, state="skipped", error=text)
        else:
            await self._park(trigger, text)

    async def _park(self, trigger: Trigger, text: str) -> None:
        self.failures += 1
        self._condition.tell(last_error=text)
        await self._condition.kept(lambda: self._journal.retry_later(trigger.id, text))
        await self._condition.pause("parked", text, None)

    # --- the conversation --------------------------------------------------------------------------

    def _is_measured(self, session: AgentSession) -> bool:
        messages = session.transcript.messages
        return bool(messages) and messages[-1] is self._measured

    async def _shorten(self, session: AgentSession, max_tokens: int) -> bool:
        """Shorten the conversation if it is longer than so much, and tell whether that was done."""
        model = partial(open_apart, self._registry, self.config)
        is_shorter = await shorten(session, self.config.history, model, max_tokens)
        if is_shorter:
            self._try_to_save()
        return is_shorter

    def hear(self, event: Event) -> None:
        """Take an event of the session."""
        if isinstance(event, TurnEnd) and not self.questions.is_stopped:
            self._condition.count_turn(event.usage)
            self._try_to_save(event)
            self.questions.turn_over()
            if self.questions.is_stopped:
                self.cancel_turn()
        elif isinstance(event, (CodeStart, ToolCall)):
            self.wakes.act()
        self._on_event(self.name, event)

    # --- the journal -------------------------------------------------------------------------------

    def _save(self) -> None:
        if self.session is not None:
            self._journal.save_transcript(self.name, self.session.transcript)

    def _try_to_save(self, turn: TurnEnd | None = None) -> None:
        """Save what can be saved. What cannot is saved with the end of the task, which waits for that."""
        try:
            self._save()
            if turn is not None and self._condition.current:
                self._journal.note_turn(self._condition.current, turn.turn, turn.usage)
        except JournalError as error:
            log.warning("%s: %s", self.name, error)

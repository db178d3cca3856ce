"""One agent of the daemon: takes its triggers one after the other and works on them in one session."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Final

import anyio
import attrs

from agentd.daemon.backoff import Backoff
from agentd.daemon.config import AgentConfig
from agentd.daemon.control import AgentState, AgentStatus
from agentd.daemon.history import bound
from agentd.daemon.journal import Journal, Trigger
from agentd.daemon.sources import ServerShare
from agentd.daemon.state import StateFolder
from agentd.daemon.telling import task_of
from agentd.errors import AgentdError, ConfigError
from agentd.events import Event, RunEnd, TurnEnd
from agentd.models.routing import client_settings, open_model
from agentd.protocols import ModelText
from agentd.registry import Registry
from agentd.session import Session
from agentd.transcript import Transcript

__all__ = ["AgentWorker"]

log = logging.getLogger("agentd.daemon")

OnEvent = Callable[[str, Event], None]
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
        self._status = AgentStatus(name=config.name, state="starting", queued=0, model=config.model)
        self._queued: int | None = None
        self._said_before = 0
        self._handled = 0
        self.failures = 0
        """Triggers that were given up, or ended without an answer."""

    # --- what can be asked -------------------------------------------------------------------------

    @property
    def status(self) -> AgentStatus:
        """How the agent is now."""
        if self._queued is None:
            self._queued = sum(1 for t in self._journal.pending(self.name) if t.id != self._status.current)
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
        transcript = self._journal.load_transcript(self.name) or Transcript()
        async with self._make_session(transcript) as session:
            self.session = session
            try:
                while not self._leaving:
                    self._wake = anyio.Event()
                    trigger = self._journal.next_trigger(self.name)
                    if trigger is None and until_empty:
                        return
                    if trigger is None:
                        await self._rest()
                    else:
                        await self._work_on(session, trigger)
            finally:
                self.session = None
                self._state = "stopped"

    async def _rest(self) -> None:
        self._state, self._queued = "idle", 0
        if self._handled:
            await anyio.to_thread.run_sync(self._journal.checkpoint)
        await self._wake.wait()

    def _make_session(self, transcript: Transcript) -> Session:
        config = self.config
        code: dict[str, Any] = {}
        if config.mode == "ptc":
            code = {"executor": config.executor, "executor_options": config.executor_options}
        return Session(
            **self._model(),
            **code,
            mode=config.mode,
            cwd=config.cwd or self._folder.workspace(self.name),
            tools=(),
            mcp_servers=self.shares,
            instructions=config.system_prompt,
            budgets=config.budgets.limits(),
            sinks=[*config.event_sinks, _Listener(self)],
            registry=self._registry,
            transcript=transcript,
            snapshots_dir=self._folder.snapshots,
            model_options=config.model_options,
        )

    def _model(self) -> dict[str, Any]:
        config = self.config
        name = f"{config.provider}/{config.model}" if config.provider else config.model
        key = config.api_key.reveal() if config.api_key is not None else None
        return client_settings(name, base_url=config.base_url, api_key=key, api=config.api)

    async def _work_on(self, session: Session, trigger: Trigger) -> None:
        trigger = self._journal.begin(trigger.id)
        self._state, self._queued = "running", None
        self._status = attrs.evolve(self._status, current=trigger.id, next_try_at=None)
        try:
            end = await self._attempt(session, trigger)
        except _Cancelled:
            self._settled(self._journal.settle(trigger.id, state="done", error="cancelled by a person"))
        except Exception as error:
            if not isinstance(error, AgentdError):  # a plugin's boundary, or a defect: the others go on
                log.exception("%s: working on %s failed", self.name, trigger.id)
            await self._failed(session, trigger, error)
        else:
            await self._done(session, trigger, end)
        finally:
            self._status = attrs.evolve(self._status, current="")
            self._save()

    async def _attempt(self, session: Session, trigger: Trigger) -> RunEnd:
        await self._shorten(session)
        self._said_before = len(session.transcript.messages)
        subscription = next((s for s in self.config.wakers() if s.uri == trigger.uri), None)
        task = task_of(trigger, subscription, self.config.budgets.max_result_chars)
        with anyio.CancelScope() as self._turn:
            try:
                return await session.ask(task)
            finally:
                self._turn = None
        raise _Cancelled

    async def _done(self, session: Session, trigger: Trigger, end: RunEnd) -> None:
        answered = end.stop_reason == "answer"
        error = "" if answered else f"ended without an answer: {end.stop_reason}"
        state = "done" if answered else "failed"
        self.failures += not answered
        settled = self._journal.settle(trigger.id, state=state, result=end.text[:RESULT_CHARS], error=error)  # type: ignore[arg-type]
        self._backoff.reset()
        self._settled(settled)
        if self.config.checkpoints:
            try:
                await session.checkpoint()
            except AgentdError as exc:
                log.warning("%s: no checkpoint of %s could be kept: %s", self.name, trigger.id, exc)

    def _settled(self, trigger: Trigger) -> None:
        self._status = attrs.evolve(
            self._status,
            last_result=trigger.result or self._status.last_result,
            last_error=trigger.error,
            last_at=trigger.ended_at,
        )
        self._handled += 1
        if self._handled % PRUNE_EVERY == 0:
            self._journal.prune(self.name, KEPT_TRIGGERS)
        log.info(
            "%s: %s %s%s", self.name, trigger.id, trigger.state, f": {trigger.error}" if trigger.error else ""
        )

    # --- failures ----------------------------------------------------------------------------------

    async def _failed(self, session: Session, trigger: Trigger, error: Exception) -> None:
        """Try again later; after the last retry, skip the trigger or park the agent with it."""
        text = str(error) or type(error).__name__
        self._status = attrs.evolve(self._status, last_error=text)
        await self._take_back_task(session)
        rule = self.config.on_error
        hopeless = isinstance(error, ConfigError)
        if not hopeless and self._backoff.tries < rule.retries:
            self._journal.retry_later(trigger.id, text)
            await self._pause("retrying", text, self._backoff.next_s())
        elif rule.then == "skip":
            self.failures += 1
            self._backoff.reset()
            self._settled(self._journal.settle(trigger.id, state="skipped", error=text))
        else:
            self.failures += 1
            self._journal.retry_later(trigger.id, text)
            await self._pause("parked", text, None)

    async def _take_back_task(self, session: Session) -> None:
        """Forget a task that was not answered at all, or each try would add one to the conversation."""
        messages = session.transcript.messages
        if len(messages) == self._said_before + 1 and messages[-1].role == "task":
            try:
                await session.continue_from(attrs.evolve(session.transcript, messages=messages[:-1]))
            except AgentdError:  # the model cannot even be made: that is the failure that is told
                pass

    async def _pause(self, state: AgentState, error: str, wait_s: float | None) -> None:
        self._state, self._queued = state, None
        self._resumed = anyio.Event()
        if wait_s is None:
            log.error(
                "%s: parked: %s; /resume %s in the prompt, or a restart, tries again",
                self.name,
                error,
                self.name,
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

    async def _shorten(self, session: Session) -> None:
        rule = self.config.history
        shorter = await bound(
            session.transcript,
            rule=rule.rule,
            max_tokens=rule.max_tokens,
            keep_turns=rule.keep_turns,
            summarise=self._summarise,
        )
        if shorter is not None:
            await session.continue_from(shorter)
            self._save()

    async def _summarise(self, text: str) -> str:
        """Ask the agent's own model, in a conversation apart."""
        model = open_model(**_for_open(self._model()), options=self.config.model_options)
        try:
            model.add_task(text)
            async with model.stream() as events:
                return "".join([event.text async for event in events if isinstance(event, ModelText)])
        finally:
            close = getattr(model, "aclose", None)
            if close is not None:
                await close()

    def _save(self) -> None:
        if self.session is not None:
            self._journal.save_transcript(self.name, self.session.transcript)

    def hear(self, event: Event) -> None:
        """Take an event of the session."""
        if isinstance(event, TurnEnd):
            self._save()
            used = self._status.usage + event.usage
            self._status = attrs.evolve(self._status, turns=self._status.turns + 1, usage=used)
            if self._status.current:
                self._journal.note_turn(self._status.current, event.turn, event.usage)
        self._on_event(self.name, event)


class _Listener:
    """The event sink through which a worker hears of its session."""

    def __init__(self, worker: AgentWorker) -> None:
        self._worker = worker

    def emit(self, event: Event) -> None:
        self._worker.hear(event)

    def close(self) -> None:
        """Nothing is held open."""


def _for_open(settings: dict[str, Any]) -> dict[str, Any]:
    return {"name": settings["model"], **{key: value for key, value in settings.items() if key != "model"}}

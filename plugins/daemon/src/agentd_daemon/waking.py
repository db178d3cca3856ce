"""A trigger of one agent: kept at work whatever becomes of it, and what it hands over is journalled."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import anyio
from agentd.errors import AgentdError, ConfigError
from agentd.protocols import ToolSource
from agentd.turn.transcript import cut_middle
from agentd_tools.backoff import Backoff

from agentd_daemon.agent import AgentWorker
from agentd_daemon.config.values import TriggerConfig
from agentd_daemon.journal import Journal
from agentd_daemon.own_wakes import Waker
from agentd_daemon.triggers import (
    MAX_EVENT_CHARS,
    EventReceipt,
    TriggerEvent,
    TriggerQueueFullError,
    TriggerSource,
)

__all__ = ["TriggerWatch"]

log = logging.getLogger("agentd.daemon")

STEADY_S = 300.0
"""After so long at work, the next failure is a first one again."""


class TriggerWatch:
    """Runs one trigger, and is its `TriggerHost`.

    :param make: makes the plugin's object.
    :param once: it looks a single time.
    """

    def __init__(
        self,
        worker: AgentWorker,
        config: TriggerConfig,
        make: Callable[[], object],
        journal: Journal,
        *,
        once: bool = False,
    ) -> None:
        self.agent = worker.name
        self.name = config.called
        self.once_only = once
        self.error = ""
        self.sources: Sequence[ToolSource] = worker.shares
        self._worker = worker
        self._config = config
        self._make = make
        self._journal = journal
        called = f"the trigger {config.called!r} (`max_in_a_row` of it)"
        self._waker = Waker(uri=config.uri, called=called, most=config.max_in_a_row)

    # --- for ever ----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep the trigger at work until cancelled. Failures are logged and tried again."""
        backoff = Backoff(first_s=1.0, longest_s=60.0)
        while True:
            began = anyio.current_time()
            try:
                await self._trigger().run(_WatchHost(self))
                self.report("it ended by itself")
            # A plugin's boundary: the agent goes on, and so do its other triggers.
            except (Exception, SystemExit) as error:
                self._failed(_alone(error))
            if anyio.current_time() - began > STEADY_S:
                backoff.reset()
            await anyio.sleep(backoff.next_s())

    async def once(self) -> None:
        """Let the trigger look a single time.

        :raises AgentdError: if that is not possible.
        """
        try:
            await self._trigger().run(_WatchHost(self))
        except TriggerQueueFullError as error:
            log.info("%s; the rest is left for the next time", error)
        except (AgentdError, TimeoutError):
            raise
        except (Exception, SystemExit) as failure:  # a plugin's boundary
            alone = _alone(failure)
            if isinstance(alone, (AgentdError, TimeoutError)):
                raise alone from None
            log.exception("%s: the trigger %r failed", self.agent, self.name)
            raise AgentdError(f"the trigger {self.name!r} failed: {alone or type(alone).__name__}") from alone

    def _trigger(self) -> TriggerSource:
        made = self._make()
        if not isinstance(made, TriggerSource):
            raise ConfigError(
                f"agentd_create_trigger of {self._config.kind!r} must return an object with `run(host)`, "
                f"got {type(made).__name__}"
            )
        return made

    def _failed(self, error: BaseException) -> None:
        text = str(error) or type(error).__name__
        if text != self.error and not isinstance(error, (AgentdError, TimeoutError)):
            log.warning("%s: the trigger %r failed", self.agent, self.name, exc_info=error)
        self.report(text)

    # --- the trigger's side ------------------------------------------------------------------------

    def report(self, problem: str) -> None:
        """Say what is wrong, once; see `TriggerHost`."""
        if problem and problem != self.error:
            log.warning("%s: the trigger %r does not work: %s", self.agent, self.name, problem)
        elif self.error and not problem:
            log.info("%s: the trigger %r works again", self.agent, self.name)
        self.error = problem

    def cursor(self) -> str | None:
        """What was noted last."""
        seen = self._journal.last_seen(self.agent, self._config.uri)
        return seen.content if seen is not None else None

    def note(self, cursor: str) -> None:
        """Move the cursor; see `TriggerHost`."""
        self._journal.note_seen(self.agent, self._config.uri, "", cursor)

    async def accept(self, event: TriggerEvent, *, wait: bool) -> EventReceipt:
        """Journal an event; see `TriggerHost`."""
        while True:
            settled = self._worker.settled
            receipt = self._journal.accept_event(
                self.agent,
                uri=self._config.uri,
                event=event.id,
                content=cut_middle(event.text, MAX_EVENT_CHARS),
                cursor=event.cursor,
                task=self._config.prompt,
                most=self._config.max_waiting,
            )
            if receipt is not None:
                if receipt.is_new:
                    own, age_s = event.may_be_own, event.age_s
                    self._worker.wakes.accepted(receipt.task, self._waker, may_be_own=own, age_s=age_s)
                    self._worker.wake()
                return receipt
            if self.once_only or not wait:
                raise TriggerQueueFullError(self.agent, self.name, self._config.max_waiting)
            await settled.wait()


def _alone(error: BaseException) -> BaseException:
    """Return the error itself of a group of one: task groups raise groups, whose texts say nothing."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


class _WatchHost:
    """What a plugin gets of a watch: the names of `TriggerHost`, and no more."""

    def __init__(self, watch: TriggerWatch) -> None:
        self._watch = watch
        self.agent = watch.agent
        self.name = watch.name
        self.once = watch.once_only
        self.sources = watch.sources
        self.note = watch.note
        self.report = watch.report

    @property
    def cursor(self) -> str | None:
        return self._watch.cursor()

    async def accept(self, event: TriggerEvent, *, wait: bool = True) -> EventReceipt:
        return await self._watch.accept(event, wait=wait)

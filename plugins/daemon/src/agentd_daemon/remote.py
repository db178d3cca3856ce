"""An agent's session at a place: what its worker needs of a session, over one that is on another machine."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio
import attrs
from agentd._concurrency.owner import GroupOwner
from agentd._concurrency.pool import call_in_thread
from agentd.errors import AgentdError
from agentd.events import Event, RunEnd, SourceLog, TurnEnd
from agentd.turn.observer import SinkGroup
from agentd.turn.spending import around
from agentd.turn.transcript import Transcript
from agentd_policy.questions import ApproverAnswer, Question
from agentd_policy.remembered import RememberedAnswers

if TYPE_CHECKING:
    from agentd.protocols import Checkpoint
    from agentd.registry import Registry
    from agentd.selectors import Selector
    from agentd.types import ToolSpec
    from agentd_policy.approvers import Approver

    from agentd_daemon.config.values import AgentConfig
    from agentd_daemon.places import AgentPlace, AgentSession, PlacedSession

__all__ = ["RemoteSession", "kept_end", "keyed"]

log = logging.getLogger("agentd.daemon")

REFRESH_S: Final = 10.0


class RemoteSession(AbstractAsyncContextManager["RemoteSession"]):
    """The session of an agent at a place. Implements `agentd_daemon.places.AgentSession`.

    Its conversation is the place's; `transcript` is a copy, of when the last run ended. Sinks hear its events here, and
    questions are asked here.

    :param settings: arguments of `agentd.Session`.
    :param workspace: what answers that hold always are kept for.
    :param hear: hears its events, after the sinks of the configuration.
    :ivar key: of the next run.
    """

    def __init__(
        self,
        place: AgentPlace,
        config: AgentConfig,
        settings: dict[str, Any],
        *,
        workspace: Path,
        registry: Registry,
        transcript: Transcript,
        hear: Callable[[Event], None],
        approver: Approver,
    ) -> None:
        self.transcript = transcript
        self.key = ""
        self._place = place
        self._name = config.name
        self._settings = settings
        self._registry = registry
        self._sinks = SinkGroup(config.event_sinks)
        self._hear = hear
        self._asker = _RemoteAsker(approver, workspace, lambda: self._placed.moves)
        self._open: PlacedSession | None = None
        self._owner = GroupOwner(self._close)

    @property
    def node(self) -> str:
        """The machine that it is on; empty if it is in the store alone."""
        return "" if self._open is None else self._open.node

    @property
    def _placed(self) -> PlacedSession:
        assert self._open is not None
        return self._open

    # --- opening and closing

    async def __aenter__(self) -> RemoteSession:
        await self._owner.open(self._begin)
        return self

    async def _begin(self) -> None:
        assert self._owner.group is not None
        self._sinks.open(lambda: self._registry)
        self._asker.start = self._owner.group.start_soon
        self._open = await self._place.session(self._name, self._settings, self._asker)
        await self._refresh()

    async def __aexit__(self, *exc_info: object) -> None:
        await self._owner.aclose()

    async def _close(self) -> None:
        """Put it to sleep; called when nothing is asked any more."""
        await call_in_thread(self._sinks.close)
        if self._open is None:  # it could not be opened
            return
        try:
            await self._open.aclose()
        except AgentdError as failed:  # it is in the store as of its last turn
            log.warning("%s: not closed as it should be: %s", self._name, failed)

    async def _refresh(self) -> None:
        self.transcript = await self._placed.transcript()

    # --- running

    async def ask(self, task: str) -> RunEnd:
        """As `Session.ask`."""
        end = RunEnd(stop_reason="error", error="the run gave no end")
        async with aclosing(self.run(task)) as events:
            async for event in events:
                end = event if isinstance(event, RunEnd) else end
        return end

    async def run(self, task: str, *, output: Any = None) -> AsyncGenerator[Event, None]:
        """As `Session.run`. What earlier attempts at a task have cost counts here: the place knows of this one."""
        spending, turns = around.get(), 0
        if _is_spent(spending):
            yield RunEnd(stop_reason="cost")
            return
        try:
            async with self._placed.run(task, output=output, key=self.key) as events:
                async for event in events:
                    over = turns > 0 and _is_spent(spending) and not isinstance(event, RunEnd)
                    if over:
                        event = RunEnd(stop_reason="cost", turns=turns)
                    if isinstance(event, TurnEnd):
                        turns += 1
                        if spending is not None:
                            spending.add(event.usage)
                    elif isinstance(event, SourceLog) and event.source == "fleet":
                        self._asker.withdraw(moved=True)
                    self._sinks.emit(event)
                    self._hear(event)
                    yield event
                    if over:
                        return
        finally:
            self._asker.withdraw()
            await self._look_again()

    async def _look_again(self) -> None:
        """Have the copy of the conversation be what it is now, also if the run was cancelled."""
        with anyio.move_on_after(REFRESH_S, shield=True):
            try:
                await self._refresh()
            except AgentdError as error:
                log.warning("%s: its conversation could not be read: %s", self._name, error)

    async def ended(self, key: str) -> RunEnd | None:
        """Return how the run of this key has ended, if that is known."""
        return await self._placed.ended(key)

    # --- the rest of a session

    async def tools(self) -> list[ToolSpec]:
        """The tools that it has."""
        return await self._placed.tools()

    async def prepare(self) -> None:
        """As `Session.prepare`."""
        await self._placed.prepare()

    async def continue_from(self, transcript: Transcript) -> None:
        """As `Session.continue_from`."""
        await self._placed.continue_from(transcript)
        self.transcript = transcript

    async def checkpoint(self, label: str | None = None) -> Checkpoint:
        """As `Session.checkpoint`."""
        return await self._placed.checkpoint(label)

    async def rewind(self, wanted: Selector | None = None) -> Checkpoint:
        """As `Session.rewind`."""
        checkpoint = await self._placed.rewind(wanted)
        await self._refresh()
        return checkpoint


def keyed(session: AgentSession, key: str) -> AgentSession:
    """Return a session whose next run has a key, if it is one that keeps ends."""
    if isinstance(session, RemoteSession):
        session.key = key
    return session


async def kept_end(session: AgentSession, key: str) -> RunEnd | None:
    """Return the end of a run that was told to nobody; None if there is none, or it is not known."""
    return await session.ended(key) if isinstance(session, RemoteSession) else None


def _is_spent(spending: Any) -> bool:
    left = None if spending is None else spending.left_usd()
    return left is not None and left <= 0


@attrs.define(eq=False)
class _AskedQuestion:
    """A question, at which move of the session it was asked, and its answer."""

    question: Question
    moves: int
    answer: asyncio.Future[ApproverAnswer]


class _RemoteAsker:
    """The approver of a session elsewhere: asks with the agent's own questions, under the ids of the journal."""

    __name__ = "the daemon"

    def __init__(self, approver: Approver, workspace: Path, moves: Callable[[], int]) -> None:
        self.start: Callable[..., object]
        self._approver = approver
        self._workspace = workspace
        self._moves = moves
        self._remembered = RememberedAnswers(workspace)
        self._open: set[_AskedQuestion] = set()

    async def ask(self, given: Question) -> ApproverAnswer:
        """Ask, and wait for the answer. What holds always is kept here: the next machine knows nothing of it."""
        request = given.request
        if self._remembered.scope_of(request, given.rule) is not None:
            return ApproverAnswer(True, by="an earlier answer")
        self.withdraw(moved=True)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[ApproverAnswer] = loop.create_future()

        def done(_: Question, said: ApproverAnswer) -> None:
            loop.call_soon_threadsafe(_set, answer, said)

        question = Question(
            self._approver.id_of(request) if self._approver.id_of is not None else given.id,
            request,
            given.why,
            given.asked,
            self._workspace,
            done,
            timeout_s=given.timeout_s,
            rule=given.rule,
        )
        asked = _AskedQuestion(question, self._moves(), answer)
        self._open.add(asked)
        try:
            self.start(self._put, question)
            said = await answer
        finally:
            self._open.discard(asked)
            question.give_up()
        return attrs.evolve(said, scope="session" if said.scope == "always" else said.scope)

    async def _put(self, question: Question) -> None:
        try:
            said = await self._approver.ask(question)
        except Exception:  # a defect is no yes
            log.exception("the question %s could not be asked", question.id)
            said = ApproverAnswer(False, reason="the question could not be asked", by=self.__name__)
        if said is not None and not question.is_over:
            question.answer(said)

    def withdraw(self, *, moved: bool = False) -> None:
        """Give up what nobody waits for any more.

        :param moved: those alone that were asked before the session went on elsewhere.
        """
        for asked in list(self._open):
            if not moved or asked.moves != self._moves():
                asked.question.give_up()
                _set(asked.answer, ApproverAnswer(False, reason="the call is gone", by=self.__name__))


def _set(answer: asyncio.Future[ApproverAnswer], said: ApproverAnswer) -> None:
    if not answer.done():
        answer.set_result(said)

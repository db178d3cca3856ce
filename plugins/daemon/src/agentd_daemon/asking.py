"""What an agent asks of a person: kept in the journal, waited for, and answered once."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import anyio
import attrs
from agentd_policy.approvers import Approver
from agentd_policy.questions import ApproverAnswer, Question
from agentd_policy.webhook import body_about
from agentd_tools.policy import PolicyRequest

from agentd_daemon.answering import give_answer
from agentd_daemon.approver import TIMEOUT_S, ApproverOptions
from agentd_daemon.journal import Journal, JournalError, JournalledQuestion, LateAnswerError
from agentd_daemon.webhooks import ask_webhook, body_of

__all__ = ["AgentQuestions"]

log = logging.getLogger("agentd.daemon")

GRACE_S: Final = 10.0
"""How long a block may go on after its call was denied because the task is parked."""
ARGUMENT_CHARS: Final = 2000
"""Of the arguments, what the journal keeps: as much as an event has."""
NAME: Final = "the daemon"
Key = tuple[str | None, str, str, str, str]


class AgentQuestions:
    """The questions of one agent. All but `approver.id_of` happens in the daemon's event loop.

    :param on_due: called when the task at hand is to end, because an answer takes too long.
    :ivar is_due: that is so: the task is to be parked at the end of its turn.
    :ivar is_stopped: and that turn has ended: what would be the next one is cancelled before it is asked for.
    """

    def __init__(
        self, agent: str, journal: Journal, options: ApproverOptions, *, on_due: Callable[[], object]
    ) -> None:
        self.approver = Approver(self._ask, NAME, in_session=True, timeout_s=TIMEOUT_S, id_of=self._id_of)
        self.is_due = self.is_stopped = False
        self._agent = agent
        self._journal = journal
        self._options = options
        self._on_due = on_due
        self._task: str | None = None
        self._news = anyio.Event()
        self._listed: tuple[str, ...] | None = None
        self._allowed: set[tuple[str, str, str, str]] = set()
        """What is allowed for the session: longer than one, as a task that is parked ends its own."""
        self._lock = threading.Lock()
        self._known: dict[Key, list[str]] = {}
        """Questions of the task whose calls are gone; the same call asked again takes them up."""
        self._live: set[str] = set()
        self._gone: tuple[set[str], set[str]] = set(), set()
        """Questions that have lost their call: in the turn before, in this one."""

    # --- what is asked -----------------------------------------------------------------------------

    @property
    def ids(self) -> tuple[str, ...]:
        """Those of the questions without an answer. Raises `JournalError`."""
        if self._listed is None:
            self._listed = tuple(question.id for question in self._journal.questions(self._agent))
        return self._listed

    def look(self) -> None:
        """See what has been answered meanwhile."""
        self._listed = None
        self._news.set()
        self._news = anyio.Event()

    # --- a task ------------------------------------------------------------------------------------

    def begin(self, trigger_id: str) -> None:
        """Begin an attempt at a task. Raises `JournalError`."""
        self.is_due = self.is_stopped = False
        self._gone = set(), set()
        with self._lock:
            self._task = trigger_id
            self._known.clear()
            for question in self._journal.questions_of(trigger_id):
                if question.state in ("parked", "lost") or (
                    question.state == "answered" and not question.taken
                ):
                    self._known.setdefault(_key_of(question), []).append(question.id)

    def turn_over(self) -> None:
        """Hear that a turn has ended."""
        self._gone = self._gone[1], set()
        self.is_stopped = self.is_due

    def must_wait(self, stop_reason: str) -> bool:
        """Tell whether the task is to be parked, and not ended: also if its time ran out over a question."""
        asking = bool(self._live or self._gone[0] or self._gone[1])
        return self.is_due or (stop_reason == "wall_time" and asking)

    def end(self) -> None:
        """End the attempt."""
        self._task, self._listed = None, None

    # --- a parked task -----------------------------------------------------------------------------

    def waited_for(self, trigger_id: str) -> list[JournalledQuestion]:
        """Return the questions that a task waits for. Raises `JournalError`."""
        return [question for question in self._journal.questions_of(trigger_id) if question.state == "parked"]

    async def answered(self, trigger_id: str, resumed: anyio.Event) -> None:
        """Wait until there is an answer to each of them, or its time is over; or until `resumed` is set. Raises
        `JournalError`."""
        asked = self.waited_for(trigger_id)
        async with anyio.create_task_group() as group:

            async def give_up() -> None:
                await resumed.wait()
                group.cancel_scope.cancel()

            group.start_soon(give_up)
            for question in asked:
                group.start_soon(self._ask_webhook, question, body_of(question))
            while asked:
                with anyio.move_on_after(min(question.until for question in asked) - time.time()):
                    await self._news.wait()
                asked = self.waited_for(trigger_id)
            group.cancel_scope.cancel()
        self.look()

    # --- a question --------------------------------------------------------------------------------

    def _id_of(self, request: PolicyRequest) -> str:
        """Return the id of the question about a call: of the one that this very call has asked before, if there is."""
        key = (self._task, request.kind, request.source, request.name, _digest(request))
        with self._lock:
            known = self._known.get(key)
            if known:
                return known.pop(0)
        return self._journal.new_question_id()

    async def _ask(self, question: Question) -> ApproverAnswer | None:
        request = question.request
        if (request.kind, request.source, request.name, question.rule) in self._allowed:
            return ApproverAnswer(True, "session", by="an earlier answer")
        if self.is_due:
            return self._parked(question.id)
        try:
            asked = self._journal.ask(self._entry(question))
        except JournalError as error:
            log.error("%s: %s", self._agent, error)
            return ApproverAnswer(False, reason=f"the question could not be kept: {error}", by=NAME)
        self._listed = None
        if asked.state == "answered":
            return self._given(asked)
        if asked.state != "open":
            return ApproverAnswer(False, reason=asked.reason, by=NAME)
        self._tell(asked)
        self._live.add(asked.id)
        try:
            return await self._wait(question, asked)
        finally:
            self._live.discard(asked.id)
            self._listed = None

    async def _wait(self, question: Question, asked: JournalledQuestion) -> ApproverAnswer | None:
        loop = asyncio.get_running_loop()

        def wake() -> None:
            loop.call_soon_threadsafe(self.look)

        question.on_end(wake)
        seconds = min(self._options.hold_s, asked.until - time.time())
        async with anyio.create_task_group() as group:
            group.start_soon(self._ask_webhook, asked, body_about(question))
            with anyio.move_on_after(seconds):
                while not (question.is_over or self.is_due):
                    if self._current(asked).state != "open":
                        break
                    await self._news.wait()
            group.cancel_scope.cancel()
        question.forget(wake)
        found = self._current(asked)
        if question.is_over:
            self._lost(asked)
            return None
        if found.state == "answered":
            return self._taken(asked.id)
        if found.state == "over":
            return ApproverAnswer(False, reason=found.reason, by=NAME)
        if asked.until <= time.time() or self._task is None:
            reason = f"nobody has answered within {time.time() - asked.asked_at:.0f} s"
            self._note(lambda: self._journal.end_question(asked.id, reason))
            return ApproverAnswer(False, reason=reason, by="the time-out")
        return await self._park(question)

    async def _park(self, question: Question) -> ApproverAnswer | None:
        """Deny the call and have its task parked: at the end of the turn, or soon, if that does not end."""
        if self.is_due:
            return self._parked(question.id)
        self.is_due = True
        self.look()  # other calls that wait are denied, too
        log.warning("%s: nobody has answered the question %s: its task is parked", self._agent, question.id)
        question.answer(self._parked(question.id))
        await anyio.sleep(GRACE_S)
        if self.is_due:  # and not another attempt
            self._on_due()
        return None

    def _parked(self, id: str) -> ApproverAnswer:
        reason = (
            f"nobody has answered the question {id} within {self._options.hold_s:g} s: this task is parked now, and "
            "goes on when there is an answer"
        )
        return ApproverAnswer(False, reason=reason, by=NAME)

    def _lost(self, asked: JournalledQuestion) -> None:
        """Note that nobody waits for the answer any more; the same call, asked again, does."""
        if asked.until > time.time():
            self._gone[1].add(asked.id)
        self._note(lambda: self._journal.lose(asked.id))
        with self._lock:
            if self._task == asked.trigger_id:
                self._known.setdefault(_key_of(asked), []).append(asked.id)

    def _current(self, asked: JournalledQuestion) -> JournalledQuestion:
        try:
            return self._journal.question(asked.id)
        except JournalError as error:
            log.error("%s: %s", self._agent, error)
            return attrs.evolve(asked, state="over", reason=f"the answer could not be read: {error}")

    def _note(self, write: Callable[[], object]) -> None:
        """Write what the end of the task, or of the daemon, will bring into the journal anyway."""
        try:
            write()
        except JournalError as error:
            log.warning("%s: %s", self._agent, error)

    def _taken(self, id: str) -> ApproverAnswer:
        try:
            found = self._journal.take(id)
        except JournalError as error:  # it could be taken twice
            log.error("%s: %s", self._agent, error)
            return ApproverAnswer(False, reason=f"the answer could not be noted: {error}", by=NAME)
        if found is None:
            return ApproverAnswer(False, reason="another call has taken the answer", by=NAME)
        return self._given(found)

    def _given(self, answered: JournalledQuestion) -> ApproverAnswer:
        if answered.allowed and answered.scope == "session":
            self._allowed.add((answered.kind, answered.source, answered.name, answered.rule))
        reason = answered.reason
        return ApproverAnswer(answered.allowed, answered.scope, reason, answered.answered_by)

    async def _ask_webhook(self, asked: JournalledQuestion, body: dict[str, Any]) -> None:
        if self._options.webhook is None:
            return
        said = await ask_webhook(self._options.webhook, body, self._agent)
        try:
            give_answer(
                self._journal,
                asked.id,
                allowed=said.allowed,
                scope=said.scope,
                reason=said.reason,
                by="the webhook",
            )
        except (LateAnswerError, JournalError) as error:
            log.warning("%s: %s", self._agent, error)
        self.look()

    def _tell(self, asked: JournalledQuestion) -> None:
        verb = {"tool": "call", "create": "create", "host": "connect to"}[asked.kind]
        log.warning(
            "%s: asks whether it may %s %s: /allow %s or /deny %s at the prompt, or `agentd approvals`",
            *(self._agent, verb, asked.name, asked.id, asked.id),
        )

    def _entry(self, question: Question) -> JournalledQuestion:
        request, now = question.request, time.time()
        text = request.content[: ARGUMENT_CHARS * 4].decode("utf-8", "replace")[:ARGUMENT_CHARS]
        return JournalledQuestion(
            id=question.id,
            agent=self._agent,
            trigger_id=self._task,
            state="open",
            kind=request.kind,
            name=_sound(request.name),
            source=_sound(request.source),
            digest=_digest(request),
            arguments=text,
            why=question.why,
            rule=question.rule,
            workspace=_sound(str(question.workspace)),
            asked_at=now,
            until=now + question.timeout_s,
        )


def _key_of(question: JournalledQuestion) -> Key:
    return (question.trigger_id, question.kind, question.source, question.name, question.digest)


def _digest(request: PolicyRequest) -> str:
    """Return the same for the same arguments, however their JSON was written."""
    content = request.content
    if request.kind == "tool":
        try:
            given = json.loads(content, object_pairs_hook=_without_doubles)
            content = json.dumps(given, sort_keys=True, separators=(",", ":")).encode()
        except (ValueError, RecursionError):  # the tool refuses them
            pass
    return hashlib.sha256(content).hexdigest()


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("which of two values counts is the tool's matter")
    return made


def _sound(text: str) -> str:
    """Return text as SQLite takes it."""
    return text.encode("utf-8", "replace").decode()

"""`RulesPolicy`: what becomes of each request: decided at once, or by somebody who is asked."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import logging
import threading
from collections.abc import Awaitable, Callable
from contextvars import Context, copy_context
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio
from agentd._concurrency.waiting import AsyncWaiter
from agentd.events import Approval
from agentd.protocols import Executor
from agentd_tools.policy import Decision, PolicyRequest, ToolJudge

from agentd_policy.approvers import TIMEOUT_S, Approver
from agentd_policy.gated import GatedExecutor
from agentd_policy.host import PolicyHost
from agentd_policy.matching import Ask
from agentd_policy.question_loop import call_in_turn, run_soon
from agentd_policy.questions import ApproverAnswer, Question
from agentd_policy.remembered import RememberedAnswers
from agentd_policy.rules import Judge, RuleList

__all__ = ["RulesPolicy"]

_EVENT_CHARS: Final = 2000
_ids: Final = itertools.count(1)
_log: Final = logging.getLogger("agentd.policy")
GoOn = Callable[[Decision], None]
_ANSWERED: Final[dict[tuple[str, bool], Decision]] = {
    (scope, is_fixed): Decision(
        True, f"allowed {words} by an answer", is_fixed=is_fixed and scope == "session"
    )
    for scope, words in (("session", "for the session"), ("always", "always"))
    for is_fixed in (True, False)
}
"""What was allowed before, by scope; an answer is about all calls of a tool, and so is a question that a rule without
arguments wants. What is allowed always can be forgotten meanwhile."""


def _ask_unless_over(approver: Approver, question: Question) -> Any:
    """Ask in a thread, which may begin late."""
    return None if question.is_over else approver.ask(question)


class RulesPolicy:
    """Implements `agentd.protocols.SessionPolicy`.

    :param judge: decides without waiting.
    :param approver: is asked where the judge says so; without one, that is denied.
    :param timeout_s: seconds that an answer may take; none is a no.
    :ivar remembered: what was allowed for more than once.
    """

    def __init__(
        self, judge: Judge, approver: Approver | None, host: PolicyHost, *, timeout_s: float = TIMEOUT_S
    ) -> None:
        self.judge = judge
        self.timeout_s = timeout_s
        self._approver = approver
        self._host = host
        self.workspace = str(host.workspace)
        self.remembered = RememberedAnswers(host.workspace)
        self._lock = threading.Lock()
        self._open: dict[Question, tuple[str, GoOn]] = {}
        self._above: RulesPolicy | None = None

    def below(self, host: PolicyHost) -> RulesPolicy:
        """Return the same for a session that works for this one: the same rules and approver, and what was allowed for
        the session is allowed there. What this session has cost counts there, too."""
        made = RulesPolicy(self.judge, self._approver, host, timeout_s=self.timeout_s)
        made.remembered = self.remembered
        made._above = self
        return made

    # --- deciding ----------------------------------------------------------------------------------

    def check(self, request: PolicyRequest, go_on: GoOn) -> Decision | Callable[[], None]:
        """Decide, or ask; see `agentd.protocols.SessionPolicy`."""
        found = self._judged(request)
        if isinstance(found, Decision):
            return found
        if (scope := self.remembered.scope_of(request, found.rule)) is not None:
            return _ANSWERED[scope, found.is_fixed]
        if self._approver is None:
            return Decision(
                False,
                f"denied by {found.told}",
                f"{found.told} wants somebody to be asked, and there is nobody",
            )
        return self._ask(request, found, self._approver, go_on)

    def for_tool(self, request: PolicyRequest) -> ToolJudge | None:
        """Return what decides about the calls of one tool, unless somebody is to be asked."""
        if not isinstance(self.judge, RuleList):
            return None
        judge, remembered = self.judge.for_tool(request, self._cost_usd), self.remembered
        if not self.judge.asks:
            return judge  # type: ignore[return-value]  # it asks nobody

        def decide(arguments: bytes, action_id: str) -> Decision | None:
            found = judge(arguments, action_id)
            if isinstance(found, Decision):
                return found
            scope = remembered.scope_of(request, found.rule)
            return None if scope is None else _ANSWERED[scope, found.is_fixed]

        return decide

    def _judged(self, request: PolicyRequest) -> Decision | Ask:
        try:
            return self.judge.judge(request, self._cost_usd)
        except Exception as error:  # the user's code may be it
            _log.exception("the policy failed over %s: denied", request.name)
            return Decision(False, "denied: the policy failed", f"the policy failed: {type(error).__name__}")

    async def decide(self, request: PolicyRequest) -> Decision:
        """The same, and wait for the decision; it is told, also if nobody was asked."""
        answered = AsyncWaiter()
        made: list[Decision] = []

        def go_on(decision: Decision) -> None:
            made.append(decision)
            answered.set()

        found = self.check(request, go_on)
        if isinstance(found, Decision):
            self._host.tell(
                Approval(
                    id=f"question_{next(_ids)}",
                    kind=request.kind,
                    name=request.name,
                    decision=found.told,
                    code_id=request.action_id,
                )
            )
            return found
        try:
            await answered.wait()
        finally:
            if not made:
                found()
        return made[0]

    def guard(self, executor: Executor) -> Executor:
        """Return the executor, which asks about files that are to be created, and about hosts if it can."""
        attach = getattr(executor, "attach_policy", None)
        if attach is not None:
            attach(self._may_reach)
        return GatedExecutor(executor, self.decide, self.workspace)

    async def _may_reach(self, host_and_port: str, is_listed: bool) -> bool:
        source = "allowed_hosts" if is_listed else ""
        decision = await self.decide(PolicyRequest(kind="host", name=host_and_port, source=source))
        return decision.allowed

    def close(self) -> None:
        """Deny what is still asked: the session ends."""
        with self._lock:
            questions = list(self._open)
        for question in questions:
            if not question.is_over:
                question.answer(ApproverAnswer(False, reason="the session has ended", by="the session's end"))

    def _cost_usd(self, action_id: str) -> float | None:
        own = self._own_cost_usd(action_id)
        above = 0.0 if self._above is None else self._above._cost_usd("")
        return None if own is None or above is None else own + above

    def _own_cost_usd(self, action_id: str) -> float | None:
        transcripts = self._host.transcripts
        transcript = transcripts.get(action_id.partition("_")[0])
        if transcript is None and len(transcripts) == 1:  # a host is asked for by whatever runs
            (transcript,) = transcripts.values()
        if transcript is None:  # a job between two runs
            return None
        if not transcript.usage.requests:
            return 0.0
        return None if transcript.usage.unpriced_requests else transcript.usage.cost_usd

    # --- asking ------------------------------------------------------------------------------------

    def _ask(self, request: PolicyRequest, ask: Ask, approver: Approver, go_on: GoOn) -> Callable[[], None]:
        question = Question(
            f"question_{next(_ids)}" if approver.id_of is None else approver.id_of(request),
            request,
            ask.told,
            approver.name,
            Path(self._host.workspace),
            partial(self._answered, ask.rule),
            timeout_s=self.timeout_s,
            rule=ask.rule,
        )
        with self._lock:
            self._open[question] = ask.rule, go_on
        self._tell(question)
        start = (
            self._host.start if inspect.iscoroutinefunction(approver.ask) and approver.in_session else None
        )
        run_soon(partial(self._wait, question))
        put = partial(self._put, approver, question)
        try:
            if start is None:
                run_soon(put)
            else:
                start(partial(_put_in, copy_context(), put))
        except RuntimeError:  # the session's event loop is gone
            question.answer(ApproverAnswer(False, reason="the session has ended", by="the session's end"))
        return partial(self._give_up, question)

    def _give_up(self, question: Question) -> None:
        with self._lock:
            open_still = self._open.pop(question, None) is not None
        question.give_up()
        if open_still:
            self._tell(question, "given up: nobody waits for an answer any more")

    async def _put(self, approver: Approver, question: Question) -> None:
        """Ask; whatever becomes of that, it is an answer, unless the approver answers later by itself."""
        try:
            if question.is_over:  # its call was given up before anybody was asked
                return
            if inspect.iscoroutinefunction(approver.ask):
                value = await approver.ask(question)
            else:
                value = await call_in_turn(partial(_ask_unless_over, approver, question))
                if inspect.isawaitable(value):
                    value = await value
            if value is not None and not question.is_over:
                question.answer(value)
            elif value is not None:
                _log.warning(
                    "the question %s is over; the answer of %s was ignored", question.id, approver.name
                )
        except Exception as error:  # the approver is the user's code
            _log.exception("%s failed over %s", approver.name, question.name)
            self._fail(question, f"{approver.name} failed: {type(error).__name__}")
        except BaseException as error:
            cancelled = isinstance(error, anyio.get_cancelled_exc_class())
            failed = f"{approver.name} failed: {type(error).__name__}"
            self._fail(question, "the session has ended" if cancelled else failed)
            raise

    def _fail(self, question: Question, reason: str) -> None:
        if not question.is_over:
            question.answer(ApproverAnswer(False, reason=reason, by=reason))

    async def _wait(self, question: Question) -> None:
        """Deny a question that nobody answers in time."""
        ended, loop = asyncio.Event(), asyncio.get_running_loop()

        def wake() -> None:
            loop.call_soon_threadsafe(ended.set)

        question.on_end(wake)
        try:
            async with asyncio.timeout(self.timeout_s):
                await ended.wait()
        except TimeoutError:
            reason = f"nobody has answered within {self.timeout_s:g} s"
            if not question.is_over:
                question.answer(ApproverAnswer(False, reason=reason, by="the time-out"))

    def _answered(self, rule: str, question: Question, answer: ApproverAnswer) -> None:
        with self._lock:
            _, go_on = self._open.pop(question, (rule, None))
        if answer.allowed:
            self.remembered.add(question.request, answer.scope, rule)
        word = "allowed" if answer.allowed else "denied"
        scope = {"once": "", "session": " for the session", "always": " always"}[answer.scope]
        told = f"{word}{scope if answer.allowed else ''} by {answer.by}"
        self._tell(question, told)  # before anything that follows from it
        if go_on is not None:
            go_on(
                Decision(
                    answer.allowed,
                    told,
                    "" if answer.allowed else answer.reason or f"{answer.by} has said no",
                )
            )
        if answer.allowed and answer.scope != "once":
            self._answer_same(question, rule)

    def _answer_same(self, question: Question, rule: str) -> None:
        """Somebody has allowed it for longer: what waits for the same answer need not be asked about."""
        request = question.request
        with self._lock:
            same = [
                other
                for other, (its_rule, _) in self._open.items()
                if its_rule == rule
                and (other.kind, other.source, other.name) == (request.kind, request.source, request.name)
            ]
        for other in same:
            if not other.is_over:
                other.answer(ApproverAnswer(True, by=f"the answer to {question.id}"))

    def _tell(self, question: Question, decision: str = "") -> None:
        request = question.request
        try:
            self._host.tell(
                Approval(
                    id=question.id,
                    kind=request.kind,
                    name=request.name,
                    arguments=request.content[: _EVENT_CHARS * 4].decode("utf-8", "replace")[:_EVENT_CHARS],
                    decision=decision,
                    waited_s=question.waited_s if decision else 0.0,
                    code_id=request.action_id,
                )
            )
        except Exception:
            _log.exception("a question could not be told")


async def _put_in(context: Context, put: Callable[[], Awaitable[None]]) -> None:
    """Ask with the context variables of the call that it is about: the request's user, say."""
    for variable, value in context.items():
        if value is not None:  # as that of the event loop's library is, outside of one
            variable.set(value)
    await put()

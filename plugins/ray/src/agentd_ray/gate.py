"""The policy of a session of a fleet: the user's, and before that a look whether a call may have been made already."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from agentd._concurrency.pool import call_in_thread
from agentd.errors import AgentdError
from agentd_tools.policy import Decision, PolicyRequest, SessionPolicy, ToolJudge

from agentd_ray.intents import CallIntent, CallIntents

__all__ = ["RepeatGate"]

GoOn = Callable[[Decision], None]
_ALLOWED: Final = Decision(True, "allowed", is_fixed=True)


class RepeatGate:
    """Asks before a call is made twice whose tool says `idempotent=False`. Implements
    `agentd_tools.policy.SessionPolicy`.

    Each such call is written to the store before it is made. When its turn is lost with the host and done again, the
    same tool waits for a word of the approver; without one it is refused. And it is made only where the host is sure to
    have the conversation still.

    :param policy, approver: as the session was given them.
    :param intents: of the conversation.
    """

    def __init__(self, policy: object, approver: object, intents: CallIntents) -> None:
        self._given = policy, approver
        self.intents = intents
        self._host: Any = None
        self._inner: SessionPolicy | None = None
        self.is_sure: Callable[[], bool] = lambda: True
        self.newest: Callable[[], str] = lambda: ""

    def below(self, host: Any) -> RepeatGate:
        """Return the policy of a session, or of one that works for it."""
        policy, approver = self._given
        made = RepeatGate(policy, approver, self.intents)
        made._host, made.is_sure, made.newest = host, self.is_sure, self.newest
        if self._inner is not None:
            below = getattr(self._inner, "below", None)
            made._inner = self._inner if below is None else below(host)
        elif policy is not None:
            from agentd import create_policy

            made._inner = create_policy(policy, approver, host)
        return made

    # --- deciding

    def for_tool(self, request: PolicyRequest) -> ToolJudge | None:
        """Return what decides about a tool's calls at once, if that can be said without a look at the store."""
        if _repeats(request):
            return None
        if self._inner is None:
            return lambda arguments, action_id: _ALLOWED
        judge: Callable[[PolicyRequest], ToolJudge | None] | None = getattr(self._inner, "for_tool", None)
        return None if judge is None else judge(request)

    def check(self, request: PolicyRequest, go_on: GoOn) -> Decision | Callable[[], None]:
        """Decide, or ask; see `agentd_tools.policy.SessionPolicy`."""
        if not _repeats(request):
            return _ALLOWED if self._inner is None else self._inner.check(request, go_on)
        given_up: list[bool] = []
        withdraw: list[Callable[[], None]] = []

        def then(decision: Decision) -> None:
            if not decision.allowed:
                go_on(decision)
            elif not given_up:
                self._start(partial(self._look, request, decision, go_on, given_up))

        def give_up() -> None:
            given_up.append(True)
            for each in withdraw:
                each()

        found = _ALLOWED if self._inner is None else self._inner.check(request, then)
        if isinstance(found, Decision):
            if not found.allowed:
                return found
            then(found)
        else:
            withdraw.append(found)
        return give_up

    async def decide(self, request: PolicyRequest) -> Decision:
        """The same, and wait for it."""
        decision = _ALLOWED if self._inner is None else await self._inner.decide(request)
        return await self._looked(request, decision) if decision.allowed and _repeats(request) else decision

    def _start(self, work: Callable[[], Any]) -> None:
        start = getattr(self._host, "start", None)
        if start is None:  # between two runs of a session that is not open
            from agentd_policy.question_loop import run_soon

            run_soon(work)
        else:
            start(work)

    async def _look(
        self, request: PolicyRequest, decision: Decision, go_on: GoOn, given_up: list[bool]
    ) -> None:
        try:
            decision = await self._looked(request, decision)
        except Exception as error:  # the approver is the user's code
            decision = Decision(False, "denied: the look failed", f"{type(error).__name__}: {error}")
        if not given_up:
            go_on(decision)

    async def _looked(self, request: PolicyRequest, decision: Decision) -> Decision:
        """Look whether the call may have been made, ask if so, and keep that it is made now."""
        intents, content = self.intents, request.content
        before = intents.held_for(request.name, content)
        if before is not None:
            asked = await self._ask(request, before)
            if not asked.allowed:
                return asked
            decision = asked
            await call_in_thread(partial(intents.resolve, before))
        try:
            if not await call_in_thread(self.is_sure):
                return Decision(
                    False, "denied: not sure", "this machine may have lost the conversation to another one"
                )
            newest = await call_in_thread(self.newest)
            await call_in_thread(partial(intents.begin, request.name, content, newest))
        except AgentdError as error:
            return Decision(
                False, "denied: not kept", f"it must be kept before it is made, and could not be: {error}"
            )
        return decision

    async def _ask(self, request: PolicyRequest, before: CallIntent) -> Decision:
        told = f"it may have been done already: {before}, and that machine was lost before the turn was kept"
        approver = self._given[1]
        if approver is None:
            return Decision(
                False,
                "denied: it may have been done already",
                f"{told}. Nobody is there to allow a second call: look whether it was done, and say so in your answer",
            )
        from agentd_policy.approvers import read_approver
        from agentd_policy.policy import RulesPolicy

        return await RulesPolicy(_AskAlways(told), read_approver(approver), self._host).decide(request)

    def guard(self, executor: Any) -> Any:
        """Return what runs an executor's actions."""
        return executor if self._inner is None else self._inner.guard(executor)

    def close(self) -> None:
        """Deny what is still asked."""
        if self._inner is not None:
            self._inner.close()


class _AskAlways:
    """Judges that somebody is to be asked, and says why."""

    def __init__(self, told: str) -> None:
        self._told = told

    def judge(self, request: PolicyRequest, cost_usd: Any) -> Any:
        from agentd_policy.matching import Ask

        return Ask(self._told, rule=self._told)


def _repeats(request: PolicyRequest) -> bool:
    """Tell whether a call must not be made twice, as far as its tool says."""
    annotations = {} if request.spec is None else request.spec.annotations
    return request.kind == "tool" and annotations.get("idempotentHint") is False

"""What a policy says about the calls of one tool set. A question holds no thread and no lane."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import attrs
from agentd.errors import ToolDeniedError
from agentd.events import Approval

from agentd_tools.call import NEVER, Entry, PendingCall
from agentd_tools.policy import Decision, PolicyRequest, SessionPolicy, ToolJudge

__all__ = ["CallGate"]

_log: Final = logging.getLogger("agentd.tools")


@attrs.define(eq=False)
class _JudgedTool:
    """What the policy has said of a tool: for all its calls, or what decides about each."""

    entry: Entry
    judge: ToolJudge | None
    fixed: Decision | None = None


class CallGate:
    """Asks the policy about each call, before it is carried out.

    :param start: starts a call that is allowed after somebody was asked; from any thread.
    """

    def __init__(self, policy: SessionPolicy, start: Callable[[PendingCall], None]) -> None:
        self._policy = policy
        self._start = start
        self._for_tool: Callable[[PolicyRequest], ToolJudge | None] = getattr(policy, "for_tool", _no_judge)
        self._tools: dict[str, _JudgedTool] = {}  # by Python name

    def admits(self, call: PendingCall, taker: object = None) -> bool:
        """Tell whether a watched call may be made now. If not, it is answered, or goes on by itself when it is allowed.

        While somebody is asked, no time-out of the tool's runs.

        :param taker: who takes the reply. If it has `park`, `unpark` and `allow` (a call from code), it hears so that
            somebody may be asked, that nobody is, and what goes on with the call.
        """
        entry = call.entry
        tool = self._tools.get(entry.binding.python_name)
        if tool is None or tool.entry is not entry:
            judge = self._for_tool(_request(entry))
            tool = self._tools[entry.binding.python_name] = _JudgedTool(entry, judge)
        if tool.fixed is not None:
            return self._decided(call, tool.fixed)
        if tool.judge is not None and (known := tool.judge(call.arguments, call.action_id)) is not None:
            tool.fixed = known if known.is_fixed else None
            return self._decided(call, known)
        call.deadline = NEVER  # before the question: its answer may be quicker than the return from here
        code: Any = taker if hasattr(taker, "park") else None
        if code is not None:
            code.park()
        request = _request(entry, content=call.arguments, action_id=call.action_id)
        try:
            decision = self._policy.check(request, partial(self._go_on, call, code))
        except BaseException as error:
            # it is the user's code, and this thread serves other sessions, too
            _log.exception("the policy raised over %s(): denied", entry.binding.python_name)
            failed = f"the policy failed: {type(error).__name__}"
            decision = Decision(False, "denied: the policy raised", failed)
        if not isinstance(decision, Decision):
            call.withdraw = decision
            if call.answered:  # the session has ended meanwhile
                decision()
            return False
        if code is not None:
            code.unpark()
        call.deadline = call.started + entry.timeout_s
        if decision.is_fixed:
            tool.fixed = decision
        return self._decided(call, decision)

    def _decided(self, call: PendingCall, decision: Decision) -> bool:
        call.decision = decision.told
        if call.quiet:
            _tell(call)
        if not decision.allowed:
            _deny(call, decision)
        return decision.allowed

    def _go_on(self, call: PendingCall, code: Any, decision: Decision) -> None:
        if call.answered:
            return
        if not decision.allowed:
            _deny(call, decision)
        elif code is None:
            self._carry_out(call)
        else:
            code.allow(partial(self._carry_out, call, code))

    def _carry_out(self, call: PendingCall, code: Any = None) -> None:
        if call.answered:  # given up meanwhile
            return
        if code is not None:
            code.unpark()
        call.started = time.monotonic()
        call.deadline = call.started + call.entry.timeout_s
        self._start(call)


def _request(entry: Entry, **given: Any) -> PolicyRequest:
    spec = entry.binding.spec
    return PolicyRequest(kind="tool", name=entry.binding.python_name, source=spec.source, spec=spec, **given)


def _no_judge(request: PolicyRequest) -> ToolJudge | None:
    return None


def _deny(call: PendingCall, decision: Decision) -> None:
    name = call.entry.binding.python_name
    call.abort(ToolDeniedError(f"{name}() was denied: {decision.reason}"))


def _tell(call: PendingCall) -> None:
    """Tell a decision that no event of the call will tell: whoever made it tells of it otherwise."""
    name = call.entry.binding.python_name
    call.owner.tell(
        Approval(id=call.event_id, kind="tool", name=name, decision=call.decision, code_id=call.action_id)
    )

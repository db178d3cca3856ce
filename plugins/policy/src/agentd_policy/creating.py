"""`create_policy`: what a session calls for its `policy=` and `approver=`."""

from __future__ import annotations

from typing import cast

from agentd.errors import ConfigError
from agentd_tools.policy import SessionPolicy

from agentd_policy.host import PolicyHost

__all__ = ["create_policy"]


def create_policy(policy: object, approver: object, host: PolicyHost) -> SessionPolicy:
    """Make the policy of one session or client, before anything starts.

    :param policy: a preset's name, a YAML file, rules, a function; a `SessionPolicy` is taken as it is. One that has
        `below(host)` belongs to another session, and what that returns is taken.
    :param approver: who is asked where the rules say so: a function, `terminal`, `("webhook", {...})`, or None.
    :param host: the session.
    :raises ConfigError: with a line for each fault.
    """
    if policy is None:
        raise ConfigError("approver: goes with policy= only")
    if all(callable(getattr(policy, name, None)) for name in ("check", "decide", "guard", "close")):
        if approver is not None:
            raise ConfigError("approver: a SessionPolicy object asks whom it wants to")
        if callable(below := getattr(policy, "below", None)):
            return cast(SessionPolicy, below(host))
        return cast(SessionPolicy, policy)
    from agentd_policy.approvers import TIMEOUT_S, read_approver
    from agentd_policy.policy import RulesPolicy
    from agentd_policy.reading import read_policy

    judge, timeout_s = read_policy(policy)
    asked = read_approver(approver)
    if timeout_s is None:
        timeout_s = TIMEOUT_S if asked is None else asked.timeout_s
    return RulesPolicy(judge, asked, host, timeout_s=timeout_s)

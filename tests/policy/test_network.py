"""Hosts under a policy: the proxy of an executor asks it, whatever its own settings say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from agentd_policy import Question
from agentd_policy.approvers import read_approver
from agentd_policy.policy import RulesPolicy
from agentd_policy.reading import read_policy
from policy_host import SessionStandIn


class AskingExecutor:
    """An executor that decides about hosts while code runs."""

    def attach_policy(self, may_reach: Any) -> None:
        self.may_reach = may_reach


@pytest.mark.anyio
async def test_an_executors_hosts_are_decided_by_the_policy_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    asked: list[str] = []

    async def approver(question: Question) -> bool:
        asked.append(question.name)
        return question.name == "a.example:443"

    judge, _ = read_policy({"preset": "ask-writes", "rules": [{"verdict": "deny", "name": "bad.example:*"}]})
    host, executor = SessionStandIn(tmp_path), AskingExecutor()
    RulesPolicy(judge, read_approver(approver), host).guard(executor)  # type: ignore[arg-type]
    assert await executor.may_reach("listed.example:443", True)
    assert not await executor.may_reach("bad.example:443", True)
    assert await executor.may_reach("a.example:443", False)
    assert not await executor.may_reach("b.example:443", False)
    assert asked == ["a.example:443", "b.example:443"]
    assert [(e.name, e.decision) for e in host.told if e.decision] == [
        ("listed.example:443", "allowed by rule 3"),
        ("bad.example:443", "denied by rule 1"),
        ("a.example:443", "allowed by approver"),
        ("b.example:443", "denied by approver"),
    ]

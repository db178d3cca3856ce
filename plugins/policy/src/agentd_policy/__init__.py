"""What an agent may do: rules, presets, and approvers who are asked.

`Rule` is a rule in Python. An approver is a function that takes a `Question` and returns a bool, one of `once`,
`session`, `always` and `deny`, or an `ApproverAnswer`; or None, and calls `Question.answer` later.
"""

from __future__ import annotations

from agentd_policy.questions import ApproverAnswer, Question
from agentd_policy.rules import Rule

__all__ = ["ApproverAnswer", "Question", "Rule"]

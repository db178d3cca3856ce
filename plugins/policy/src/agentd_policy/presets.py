"""The presets: policies that have a name."""

from __future__ import annotations

from typing import Final

from agentd_policy.rules import Rule, RuleList

__all__ = ["PRESETS"]

_READING: Final = (
    Rule("allow", kind="tool", read_only=True),
    Rule("allow", kind="host", source="allowed_hosts"),
)

PRESETS: Final = {
    "read-only": RuleList(
        [*_READING, Rule("deny", reason="the policy read-only allows only tools that change nothing")],
        "deny",
        label="read-only",
    ),
    "ask-writes": RuleList(_READING, "ask", label="ask-writes"),
    "yolo": RuleList(
        [
            _READING[1],
            Rule("deny", kind="host", reason="the executor's allowed_hosts do not have it"),
            Rule("allow"),
        ],
        "allow",
        label="yolo",
    ),
}
"""By name. None opens the network further than the executor's own `allowed_hosts`, unless somebody says so."""

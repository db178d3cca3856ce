"""What a session remembers: long conversations kept within a number of tokens."""

from __future__ import annotations

from agentd_history.policy import History, Rule

__all__ = ["History", "Rule"]

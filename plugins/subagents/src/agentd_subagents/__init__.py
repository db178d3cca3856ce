"""Models and agents that code asks for: the tool source `models`."""

from __future__ import annotations

from agentd_subagents.from_code import ModelsFromCode, models_from_code

__all__ = ["ModelsFromCode", "models_from_code"]

"""Skills: tools written out as a directory of typed Python functions and documents, in the AgentSkills layout."""

from __future__ import annotations

from agentd.skills.renderer import AgentSkillsRenderer

__all__ = ["AgentSkillsRenderer"]

"""Skills: tools written out as a directory of typed Python functions and documents, in the AgentSkills layout."""

from __future__ import annotations

from agentd_skills.layout import layout_of
from agentd_skills.renderer import AgentSkillsRenderer

__all__ = ["AgentSkillsRenderer", "layout_of"]

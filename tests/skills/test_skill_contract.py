"""The renderer `agentskills` keeps the contract of skill renderers."""

from __future__ import annotations

from agentd_skills import AgentSkillsRenderer
from agentd_testing import SkillRendererContract


class TestAgentSkills(SkillRendererContract):
    def make_renderer(self) -> AgentSkillsRenderer:
        return AgentSkillsRenderer()

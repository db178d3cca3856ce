"""The plugin `agentskills`: the default skill renderer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentd.hookspecs import hookimpl
from agentd.protocols import SkillRenderer
from agentd.registry.options import check_options

AGENTD_API = 1


@hookimpl
def agentd_create_skill_renderer(options: Mapping[str, Any]) -> SkillRenderer:
    """Make the renderer. Options: `prompt_tokens` bounds what the prompt says about skills and tools; `skills` are
    paths of skills, and of folders of skills, that the code may read."""
    check_options("the skill renderer 'agentskills'", options, {"prompt_tokens": object, "skills": object})
    from agentd_skills.renderer import AgentSkillsRenderer

    return AgentSkillsRenderer(**options)

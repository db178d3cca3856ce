"""The plugin `agentskills`: the default skill renderer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentd.errors import ConfigError
from agentd.hookspecs import hookimpl
from agentd.protocols import SkillRenderer

AGENTD_API = 1


@hookimpl
def agentd_create_skill_renderer(options: Mapping[str, Any]) -> SkillRenderer:
    """Make the renderer; it has no options."""
    if options:
        raise ConfigError(f"the skill renderer 'agentskills' has no options, got {sorted(options)}")
    from agentd.skills.renderer import AgentSkillsRenderer

    return AgentSkillsRenderer()

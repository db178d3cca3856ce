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
    """Make the renderer. Its option `prompt_tokens` bounds what the prompt says about skills and tools."""
    unknown = sorted(set(options) - {"prompt_tokens"})
    if unknown:
        raise ConfigError(f"the skill renderer 'agentskills' has the option 'prompt_tokens' and no {unknown}")
    from agentd.skills.renderer import AgentSkillsRenderer

    return AgentSkillsRenderer(**options)

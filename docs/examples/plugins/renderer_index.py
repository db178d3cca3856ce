"""A skill renderer plugin: the default's files, and an index of all tools in `skills/INDEX.md`.

[project.entry-points."agentd.skill_renderers"]
index = "renderer_index"
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agentd.hookspecs import hookimpl
from agentd.protocols import NO_NOTES, SkillRenderer
from agentd.types import ToolSpec

AGENTD_API = 1


class IndexRenderer:
    """Lets another renderer write the bindings and adds one file."""

    def __init__(self, inner: SkillRenderer) -> None:
        self._inner = inner
        self.guide = inner.guide
        self.layout = inner.layout

    def render(
        self, tools: Sequence[ToolSpec], directory: Path, *, notes: Mapping[str, str] = NO_NOTES
    ) -> None:
        self._inner.render(tools, directory, notes=notes)
        path = directory / "INDEX.md"
        text = "# All tools\n\n" + "".join(f"- {line}\n" for line in self._lines(tools))
        if not path.is_file() or path.read_text() != text:
            new = path.with_suffix(".new")
            new.write_text(text)
            os.replace(new, path)  # a reader sees the old text or the new, never half of it

    def prompt(self, tools: Sequence[ToolSpec], directory: Path) -> str:
        return f"{self._inner.prompt(tools, directory)}\nAll tools are listed in {directory.name}/INDEX.md."

    @staticmethod
    def _lines(tools: Sequence[ToolSpec]) -> list[str]:
        return sorted(f"{t.source}: {t.name}: {t.description.partition(chr(10))[0]}" for t in tools)


@hookimpl
def agentd_create_skill_renderer(options: Mapping[str, Any]) -> IndexRenderer:
    from agentd.registry import Registry

    return IndexRenderer(Registry().create_skill_renderer("agentskills", **options))

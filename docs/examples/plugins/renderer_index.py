"""A skill renderer plugin: the default's files, and an index of all tools, for people and for code.

[project.entry-points."agentd.skill_renderers"]
index = "renderer_index"

`skills/INDEX.md` lists the tools; the model's code finds the same by `from tool_index import TOOLS`.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from agentd.hookspecs import hookimpl
from agentd.protocols import NO_NOTES, Layout, SkillRenderer
from agentd.registry.options import check_options
from agentd.types import ToolSpec

AGENTD_API = 1


class IndexRenderer:
    """Lets another renderer write the bindings and adds two files."""

    def __init__(self, inner: SkillRenderer, *, title: str) -> None:
        self._inner = inner
        self._title = title
        self.guide = f"{inner.guide}\n`from tool_index import TOOLS` gives the names of all tools, sorted."

    def layout(self, directory: Path) -> Layout:
        """The other renderer's, and the folder in which `tool_index` lies."""
        inner = self._inner.layout(directory)
        return attrs.evolve(inner, importable=(*inner.importable, directory))

    def render(
        self, tools: Sequence[ToolSpec], directory: Path, *, notes: Mapping[str, str] = NO_NOTES
    ) -> None:
        self._inner.render(tools, directory, notes=notes)
        lines = sorted(f"- {t.source}: {t.name}: {t.description.partition(chr(10))[0]}\n" for t in tools)
        _write(directory / "INDEX.md", f"# {self._title}\n\n{''.join(lines)}")
        _write(directory / "tool_index.py", f"TOOLS = {sorted(tool.name for tool in tools)!a}\n")

    def prompt(self, tools: Sequence[ToolSpec], directory: Path) -> str:
        return f"{self._inner.prompt(tools, directory)}\nAll tools are listed in {directory.name}/INDEX.md."


def _write(path: Path, text: str) -> None:
    """Write a file if it has changed. A reader sees the old text or the new, never half of it."""
    data = text.encode("utf-8", "backslashreplace")
    if path.is_file() and not path.is_symlink() and path.read_bytes() == data:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    number, new = tempfile.mkstemp(
        dir=path.parent
    )  # a new file: never through a link that code has put there
    with os.fdopen(number, "wb") as file:
        file.write(data)
    os.chmod(new, 0o644)
    os.replace(new, path)


@hookimpl
def agentd_create_skill_renderer(options: Mapping[str, Any]) -> IndexRenderer:
    check_options("the skill renderer 'index'", options, {"title": str, "prompt_tokens": int | None})
    from agentd.registry import Registry

    rest = dict(options)
    title = rest.pop("title", "All tools")
    return IndexRenderer(Registry().create_skill_renderer("agentskills", **rest), title=title)

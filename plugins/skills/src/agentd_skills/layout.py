"""Where in a skills directory the code finds what."""

from __future__ import annotations

from pathlib import Path

from agentd.protocols import Layout

__all__ = ["layout_of"]


def layout_of(directory: Path) -> Layout:
    """Return the layout of a directory that `AgentSkillsRenderer` writes: bindings in `lib`, the command in `bin`."""
    return Layout(
        importable=(directory,),
        programs=(directory / "bin",),
        preload=("lib.tools",),
        read_only=(directory,),
    )

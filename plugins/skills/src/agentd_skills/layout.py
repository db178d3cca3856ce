"""Where in a skills directory the code finds what."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from agentd.protocols import Layout

__all__ = ["layout_of"]


def layout_of(directory: Path, library: Mapping[str, str] | None = None) -> Layout:
    """Return the layout of a directory that `AgentSkillsRenderer` writes: bindings in `lib`, the command in `bin`.

    :param library: the text of the bindings' modules, by path in the directory.
    """
    return Layout(
        importable=(directory, directory / "lib" / ".startup"),
        programs=(directory / "bin",),
        preload=("lib.tools", "lib._beside"),
        sources={directory / path: text for path, text in (library or {}).items()},
        read_only=(directory,),
    )

"""What turns tools into files that code can read and import."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final, Protocol

import attrs

from agentd.types import ToolSpec

__all__ = ["NO_NOTES", "Layout", "SkillRenderer"]

NO_NOTES: Final[Mapping[str, str]] = MappingProxyType({})


@attrs.frozen(kw_only=True)
class Layout:
    """Where a renderer's files are, for the executor that shows them to the code.

    :ivar importable: folders for PYTHONPATH, in front of what the session installs.
    :ivar programs: folders for PATH; they stand at its end, so that nothing takes a system command's place.
    :ivar preload: modules that every Python block finds imported already.
    :ivar sources: the text of these modules, by path. Without it a block has to import them itself: what lies in a
        folder may be code's own by then.
    :ivar read_only: folders that code may read and must not change, where a sandbox can see to it.
    """

    importable: tuple[Path, ...] = ()
    programs: tuple[Path, ...] = ()
    preload: tuple[str, ...] = ()
    sources: Mapping[Path, str] = MappingProxyType({})
    read_only: tuple[Path, ...] = ()


class SkillRenderer(Protocol):
    """Turns tools into a directory of files that the model's code can read and import.

    `guide` is what the system prompt says in front of `prompt(...)`: how code gets at what was rendered. It does
    not depend on the tools.
    """

    guide: str

    def layout(self, directory: Path) -> Layout:
        """Return where in the directory the code finds what. Called after `render`."""

    def render(
        self, tools: Sequence[ToolSpec], directory: Path, *, notes: Mapping[str, str] = NO_NOTES
    ) -> None:
        """Write what has changed, atomically, and remove what this renderer wrote before and is gone.

        `notes` are the sources' own texts on how their tools belong together, by the source's name.
        """

    def prompt(self, tools: Sequence[ToolSpec], directory: Path) -> str:
        """The part of the system prompt that describes these tools; the same text for the same tools."""

"""What stands in a workspace for absent settings of other programs while sandboxes run there (`stand_ins`).

Which names, how git is told to ignore them, where it is written down that they were made, and what is done and said if
a sandbox was killed before it could take them away.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from agentd.workspace import unfinished_dir

from agentd_runner.stand_ins import FOLDER, MARKS, left_behind, standing_in

__all__ = [
    "COMMON_DIR",
    "PLACEHOLDERS",
    "git_patterns",
    "git_variables",
    "mark_dir",
    "settle_stand_ins",
    "standing_names",
]

# Files of a workspace in which other programs find commands that they run: git, shells, editors, agents. srt guards
# most of them itself (DANGEROUS_FILES and directories of 0.0.83).
PLACEHOLDERS: Final = {
    **dict.fromkeys((".gitconfig", ".gitmodules", ".bashrc", ".bash_profile", ".profile"), ""),
    **dict.fromkeys((".zshrc", ".zprofile", ".zshenv", ".ripgreprc", ".envrc"), ""),
    **dict.fromkeys((".mcp.json", ".vscode", ".idea"), ""),
    **dict.fromkeys((".claude", ".claude/commands", ".claude/agents"), FOLDER),
}
"""What stands in for each where it is absent: content, or `FOLDER`."""

COMMON_DIR: Final = ".\n"
"""A `commondir` that leads nowhere else: git says of such a repository what it says of one without the file."""


def mark_dir(workspace: Path, executor: str) -> Path:
    """Where an executor's sessions in a workspace write down what they have made there."""
    return unfinished_dir(workspace) / f"{MARKS}{executor}"


def standing_names(workspace: Path) -> list[str]:
    """Return what sessions have made in a workspace, whether they live or were killed."""
    return standing_in(str(unfinished_dir(workspace)))


def settle_stand_ins(workspace: Path, executor: str) -> list[str]:
    """Take away what killed sessions of an executor have left; log it, and return what was done."""
    removed = left_behind(str(mark_dir(workspace, executor)), str(workspace))
    if not removed:  # none was killed, or somebody else has cleared the workspace
        return []
    told = (
        f"a sandbox in {str(workspace)!r} was killed before it could tidy up: {len(removed)} entries that it had made "
        f"were removed ({', '.join(map(repr, removed[:5]))}{', ...' if removed[5:] else ''})"
    )
    logging.getLogger(f"agentd.executor.{executor}").warning("%s", told)
    return [told]


def git_patterns(workspace: Path, names: Iterable[str]) -> str:
    """Return a file of patterns for git: what stands in, and agentd's own folder."""
    above = next((place for place in (workspace, *workspace.parents) if (place / ".git").exists()), workspace)
    relative = workspace.relative_to(above).as_posix()
    prefix = "/" if relative == "." else f"/{relative}/"
    return "".join(f"{prefix}{name}\n" for name in (*names, ".agentd/"))


def git_variables(patterns: str) -> dict[str, str]:
    """Return the variables that name a file of patterns to git (2.31 and newer)."""
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "core.excludesFile",
        "GIT_CONFIG_VALUE_0": patterns,
    }

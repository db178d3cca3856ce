"""The entries that stand in the workspace while srt runs, in the place of files that code must not make.

Inside they are devices, so `git add -A` would stop at them: git is told to ignore them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

__all__ = [
    "GIT_EXCLUDES", "PLACEHOLDERS", "absent_names", "git_excludes", "placeholder_names", "write_git_excludes",
]  # fmt: skip

# srt's own list (DANGEROUS_FILES and directories of 0.0.83) and ours (settings.DENY_WRITE).
PLACEHOLDERS = (
    *(".gitconfig", ".gitmodules", ".bashrc", ".bash_profile", ".zshrc", ".zprofile", ".profile"),
    *(".ripgreprc", ".mcp.json", ".vscode", ".idea", ".claude/commands", ".claude/agents", ".claude"),
    ".envrc",
)

GIT_EXCLUDES = "gitexcludes"


def placeholder_names(workspace: Path, deny_write: Iterable[Path]) -> list[str]:
    """Return the names that a placeholder may stand for: the usual ones, and those of `deny_write` in the workspace.

    srt puts it at the first folder on the way that is not there, so these count, too.
    """
    denied = [path.relative_to(workspace) for path in deny_write if path.is_relative_to(workspace)]
    ways = [way.as_posix() for path in denied for way in (path, *path.parents)]
    return list(dict.fromkeys([*PLACEHOLDERS, *(way for way in ways if way != ".")]))


def absent_names(workspace: Path, names: Iterable[str]) -> tuple[str, ...]:
    """Return those that are not there now, for which placeholders will stand."""
    return tuple(name for name in names if not os.path.lexists(workspace / name))


def write_git_excludes(folder: Path, workspace: Path, absent: Iterable[str]) -> None:
    """Write the patterns for git: the placeholders, and agentd's own folder."""
    above = next((place for place in (workspace, *workspace.parents) if (place / ".git").exists()), workspace)
    relative = workspace.relative_to(above).as_posix()
    prefix = "/" if relative == "." else f"/{relative}/"
    (folder / GIT_EXCLUDES).write_text("".join(f"{prefix}{name}\n" for name in (*absent, ".agentd/")))


def git_excludes(folder: Path) -> dict[str, str]:
    """The variables that name the patterns to git."""
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "core.excludesFile",
        "GIT_CONFIG_VALUE_0": str(folder / GIT_EXCLUDES),
    }

"""The names in a workspace that code must not make: what stands in for them, and how git is told to ignore that.

A name that srt guards, or that `deny_write` names, must be there when srt starts (`stand_ins`): otherwise srt makes an
entry of its own and takes it away at its end, and a second session in the workspace would lose it then.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from pathlib import Path

import attrs
from agentd_runner.host.placeholders import PLACEHOLDERS, git_patterns, git_variables
from agentd_runner.host.repositories import guard_repositories
from agentd_runner.stand_ins import FOLDER

__all__ = ["GIT_EXCLUDES", "Guarded", "git_excludes", "guard_workspace", "write_git_excludes"]

GIT_EXCLUDES = "gitexcludes"


@attrs.frozen
class Guarded:
    """What code must not write to in a workspace, beside what is there and srt guards by itself."""

    stand_ins: dict[str, str]
    """By relative path what stands in for it where it is absent, folders before what they hold."""
    deny_write: list[Path]
    absent: tuple[str, ...]
    """The names for which something will stand in."""


def guard_workspace(
    workspace: Path, deny_write: Iterable[Path], standing: Collection[str], *, allow_git_config: bool = False
) -> Guarded:
    """Look for what must be guarded; `standing` are names that sessions have made already, which count as absent."""

    def is_absent(name: str) -> bool:
        return name in standing or not os.path.lexists(workspace / name)

    git = guard_repositories(workspace, allow_config=allow_git_config)
    wanted = {**PLACEHOLDERS, **git.wanted}
    denied = [workspace / path for path in git.denied]
    for path in deny_write:
        blocked = next(
            (name for name in _ways(path, workspace) if wanted.get(name) != FOLDER and is_absent(name)), None
        )
        if blocked is None:
            denied.append(path)
        else:  # a file in the first absent folder's place keeps all that would be below it
            wanted.setdefault(blocked, "")
    stand_ins = dict(sorted(wanted.items(), key=lambda item: item[0].count("/")))
    return Guarded(
        stand_ins=stand_ins,
        deny_write=list(dict.fromkeys([*denied, *(workspace / name for name in stand_ins)])),
        absent=tuple(filter(is_absent, stand_ins)),
    )


def _ways(path: Path, workspace: Path) -> list[str]:
    """The folders on the way to a path in the workspace, and the path."""
    if path == workspace or not path.is_relative_to(workspace):
        return []
    relative = path.relative_to(workspace)
    return [way.as_posix() for way in (*reversed(relative.parents[:-1]), relative)]


def write_git_excludes(folder: Path, workspace: Path, absent: Iterable[str]) -> None:
    """Write the patterns for git: the placeholders, and agentd's own folder."""
    (folder / GIT_EXCLUDES).write_text(git_patterns(workspace, absent))


def git_excludes(folder: Path) -> dict[str, str]:
    """The variables that name the patterns to git."""
    return git_variables(str(folder / GIT_EXCLUDES))

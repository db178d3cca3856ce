"""What could lead git elsewhere in repositories that are in a workspace at the start, and how code is kept from it.

git takes settings and hooks from the folder that `commondir` names (gitrepository-layout(5)), finds a linked worktree's
or a submodule's repository by what a file `.git` says, and reads `config.worktree` if the settings say so. srt keeps
hooks and `config` of each `.git`; these files, and the repositories of submodules, are kept here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs

from agentd_executor_srt.stand_ins import FOLDER

__all__ = ["HERE", "SEARCH_DEPTH", "GitGuard", "guard_repositories", "kept_settings_note"]

SEARCH_DEPTH: Final = 6
"""How deep repositories are looked for, by srt too: 3 by itself, 10 at most, which takes five times as long."""

MAX_ENTRIES: Final = 200_000
SKIPPED: Final = {".agentd", "node_modules"}
HERE: Final = ".\n"
"""A `commondir` that leads nowhere else: git says of such a repository what it says of one without the file."""


@attrs.define
class GitGuard:
    """Paths, relative to the workspace."""

    denied: list[str] = attrs.field(factory=list)
    """What code may not write to."""
    wanted: dict[str, str] = attrs.field(factory=dict)
    """What stands in for such files where they are absent (`stand_ins`)."""

    def keep(self, path: str, absent: str) -> None:
        """Keep a file as it is, or make it with this content."""
        self.denied.append(path)
        self.wanted[path] = absent


def guard_repositories(workspace: Path, *, allow_config: bool = False) -> GitGuard:
    """Look for repositories, and return what is to be kept of them; settings are not with `allow_config`."""
    guard = GitGuard()
    for path in _find(workspace):
        if os.path.isdir(workspace / path):
            _repository(workspace, path, guard)
            for submodule in _submodules(workspace, f"{path}/modules"):
                _repository(workspace, submodule, guard)
                guard.keep(f"{submodule}/hooks", FOLDER)
                if not allow_config:
                    guard.keep(f"{submodule}/config", "")
        else:
            guard.denied.append(path)
    return guard


_NOT_WRITTEN: Final = re.compile(rb"could not (?:write|lock) config file [^\n]*\.git/[^\n]*config: ")


def kept_settings_note(said: bytes) -> str:
    """Return what is to be said of git's complaint that it could not change settings, or nothing.

    `git push -u`, `git branch --set-upstream-to` and others complain, and end with exit code 0.
    """
    if not _NOT_WRITTEN.search(said):
        return ""
    return (
        "note: git's settings (.git/config) are read-only in this sandbox, so upstream branches, remotes and other "
        "settings were not changed, whatever the exit code says (the option allow_git_config of the executor allows it)"
    )


def _find(workspace: Path) -> Iterator[str]:
    """Yield every `.git`, file or folder, following no links."""
    todo = [("", 1)]
    seen = 0
    while todo and seen < MAX_ENTRIES:
        folder, depth = todo.pop()
        for entry in _scan(workspace / folder):
            seen += 1
            if entry.is_symlink():
                continue
            if entry.name == ".git":
                yield os.path.join(folder, entry.name)
            elif depth < SEARCH_DEPTH and entry.name not in SKIPPED and entry.is_dir(follow_symlinks=False):
                todo.append((os.path.join(folder, entry.name), depth + 1))


def _submodules(workspace: Path, folder: str) -> Iterator[str]:
    """Yield the repositories below `modules`, whose names may have slashes."""
    todo = [folder]
    while todo:
        above = todo.pop()
        for entry in _scan(workspace / above):
            path = f"{above}/{entry.name}"
            if not entry.is_dir(follow_symlinks=False):
                continue
            if _is_repository(workspace / path):
                yield path
                todo.append(f"{path}/modules")
            else:
                todo.append(path)


def _repository(workspace: Path, path: str, guard: GitGuard) -> None:
    if not _is_repository(workspace / path):
        return
    guard.keep(f"{path}/commondir", HERE)
    for name, absent in _named_in_settings(workspace, path):
        guard.keep(name, absent)
    by_worktree = _has_worktree_settings(workspace / path)
    if by_worktree:
        guard.keep(f"{path}/config.worktree", "")
    for entry in _scan(workspace / path / "worktrees"):
        linked = f"{path}/worktrees/{entry.name}"
        guard.denied += [
            f"{linked}/{name}" for name in ("commondir", "gitdir") if _is_file(workspace / linked / name)
        ]
        if by_worktree:
            guard.keep(f"{linked}/config.worktree", "")


_SECTION: Final = re.compile(r"\[\s*([\w.-]+)")
_SETTING: Final = re.compile(r"\s*(?:\[[^\]]*\])?\s*(path|hookspath)\s*=\s*\"?([^\"#;\r\n]+)", re.IGNORECASE)


def _named_in_settings(workspace: Path, path: str) -> Iterator[tuple[str, str]]:
    """Yield what in the workspace a repository's settings name: further settings, and a folder of hooks."""
    folder = workspace / path
    for name in ("config", "config.worktree"):
        try:
            lines = (folder / name).read_text("utf-8", "replace").splitlines()
        except OSError:
            continue
        section = ""
        for line in lines:
            if found := _SECTION.match(line.strip()):
                section = found[1].lower()
            if (setting := _SETTING.match(line)) is None:
                continue
            if setting[1].lower() == "path" and section in ("include", "includeif"):
                base, absent = folder, ""
            elif setting[1].lower() == "hookspath" and section == "core":
                base, absent = folder.parent, FOLDER
            else:
                continue
            named = os.path.relpath(os.path.normpath(base / setting[2].strip()), workspace)
            if not named.startswith(os.pardir) and named != os.curdir:
                above = [str(parent) for parent in Path(named).parents if str(parent) != os.curdir]
                yield from ((one, FOLDER) for one in reversed(above) if not (workspace / one).exists())
                yield named, absent


def _is_repository(folder: Path) -> bool:
    return all(os.path.lexists(folder / name) for name in ("HEAD", "objects", "refs"))


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _has_worktree_settings(folder: Path) -> bool:
    try:
        return b"worktreeconfig" in (folder / "config").read_bytes().lower()
    except OSError:
        return True  # what it says is not known


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    try:
        return list(os.scandir(folder))
    except OSError:  # gone, no folder, or closed to us
        return []

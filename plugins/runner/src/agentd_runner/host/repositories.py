"""What could lead git elsewhere in repositories that are in a workspace at the start, and how code is kept from it.

git takes settings and hooks from the folder that `commondir` names (gitrepository-layout(5)), finds a linked worktree's
or a submodule's repository by what a file or link `.git` says, and reads `config.worktree` if the settings say so (to
which `git sparse-checkout` sets them). All these files, wherever in the workspace a `.git` leads, are kept here.

A link cannot be kept in its place. So a repository whose hooks or settings are links is kept as a whole.
"""

from __future__ import annotations

import os
import re
import stat
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs

from agentd_runner.host.placeholders import COMMON_DIR
from agentd_runner.stand_ins import FOLDER

__all__ = ["SEARCH_DEPTH", "GitGuard", "guard_repositories", "kept_settings_note"]

SEARCH_DEPTH: Final = 6
"""How deep repositories are looked for, by srt as well: 3 by itself, 10 at most, which takes five times as long."""

MAX_ENTRIES: Final = 200_000
MAX_SETTINGS: Final = 1 << 20
SKIPPED: Final = {".agentd", "node_modules", "site-packages", "__pycache__"}
_SHAPE: Final = {"HEAD", "objects", "refs"}


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
    """Look for repositories and return what is to be kept of them; settings are not with `allow_config`."""
    guard = GitGuard()
    for path in _find(workspace):
        dot_git = workspace / path
        by_name = not os.path.isdir(dot_git) or os.path.islink(dot_git)
        if _is_file(dot_git):
            guard.denied.append(path)
        for folder in _folders_of(dot_git):
            inside = _relative(workspace, folder)
            if inside is not None and by_name and not os.path.lexists(folder):
                _keep_way(workspace, inside, FOLDER, guard)
            elif inside is not None and (by_name or _is_repository(folder)):
                _repository(workspace, inside, guard, allow_config=allow_config)
            elif inside is not None:  # it lacks something that code could add
                names = ("hooks", "commondir", *_settings(allow_config))
                guard.denied += [f"{inside}/{name}" for name in names if (folder / name).exists()]
            _named_in_settings(
                workspace, folder, dot_git.parent if dot_git.name == ".git" else dot_git, guard
            )
    for above in workspace.parents:
        for folder in _folders_of(above / ".git"):
            _named_in_settings(workspace, folder, above, guard)
    guard.denied = list(dict.fromkeys(guard.denied))
    return guard


def _folders_of(dot_git: Path) -> list[Path]:
    """The folder that git takes for a repository's by a `.git`, and the one where that has its settings."""
    own = os.path.realpath(dot_git)
    if os.path.isfile(own):
        said = _read(own)
        if not said.startswith("gitdir:"):
            return []
        own = os.path.realpath(dot_git.parent / said.removeprefix("gitdir:").strip())
    common = _read(os.path.join(own, "commondir")).strip()
    return [Path(folder) for folder in dict.fromkeys((own, os.path.realpath(os.path.join(own, common))))]


def _relative(workspace: Path, path: Path) -> str | None:
    """The path relative to the workspace, if it is below."""
    if path == workspace or not path.is_relative_to(workspace):
        return None
    return str(path.relative_to(workspace))


def _keep_way(workspace: Path, path: str, absent: str, guard: GitGuard) -> None:
    """Keep a path, and the folders on the way to it that are absent."""
    for parent in reversed(Path(path).parents[:-1]):
        if not (workspace / parent).exists():
            guard.keep(str(parent), FOLDER)
    guard.keep(path, absent)


def _led_to(workspace: Path, real: str, name: str, guard: GitGuard) -> None:
    """Keep what a link to settings or hooks leads to."""
    inside = _relative(workspace, Path(real))
    if inside is not None and os.path.lexists(real):
        guard.denied.append(inside)
    elif inside is not None:
        _keep_way(workspace, inside, FOLDER if name in ("hooks", "modules", "worktrees") else "", guard)


_NOT_WRITTEN: Final = re.compile(rb"could not (?:write|lock) config file [^\n]*\.git/[^\n]*config: ")
_ALL_KEPT: Final = re.compile(rb"Unable to create '[^\n]*\.lock': Read-only file system")


def kept_settings_note(said: bytes) -> str:
    """Return what is to be said of git's complaint that it could not change settings or a repository, or nothing.

    `git push -u`, `git branch --set-upstream-to` and others complain, and end with exit code 0.
    """
    if _NOT_WRITTEN.search(said):
        return (
            "note: git's settings (.git/config) are read-only in this sandbox, so upstream branches, remotes and other "
            "settings were not changed, whatever the exit code says (the option allow_git_config of the executor "
            "allows it)"
        )
    if _ALL_KEPT.search(said):
        return (
            "note: this repository is read-only in this sandbox, because its hooks or settings are symbolic links, "
            "which cannot be kept in their place otherwise"
        )
    return ""


def _find(workspace: Path) -> Iterator[str]:
    """Yield every `.git` and every bare repository, following no links; those far up first, for there is a bound."""
    todo = deque([("", 1)])
    seen = 0
    while todo and seen < MAX_ENTRIES:
        folder, depth = todo.popleft()
        entries = _scan(workspace / folder)
        seen += len(entries)
        if folder and _SHAPE.issubset(entry.name for entry in entries):
            yield folder
            continue
        for entry in entries:
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


def _repository(workspace: Path, path: str, guard: GitGuard, *, allow_config: bool) -> None:
    settings = _settings(allow_config)
    leading = ("hooks", "commondir", "modules", "worktrees", *settings)
    links = [name for name in leading if os.path.islink(workspace / path / name)]
    if links:
        guard.denied.append(path)
    for name in links:
        _led_to(workspace, os.path.realpath(workspace / path / name), name, guard)
    if _is_linked(workspace / path):
        _linked(workspace, path, guard, allow_config=allow_config)
        return
    guard.keep(f"{path}/commondir", COMMON_DIR)
    guard.keep(f"{path}/hooks", FOLDER)
    for name in settings:
        guard.keep(f"{path}/{name}", "")
    for entry in _scan(workspace / path / "worktrees"):
        _linked(workspace, f"{path}/worktrees/{entry.name}", guard, allow_config=allow_config)
    for submodule in _submodules(workspace, f"{path}/modules"):
        _repository(workspace, submodule, guard, allow_config=allow_config)
        _named_in_settings(workspace, workspace / submodule, None, guard)


def _settings(allow_config: bool) -> tuple[str, ...]:
    return () if allow_config else ("config", "config.worktree")


def _linked(workspace: Path, path: str, guard: GitGuard, *, allow_config: bool) -> None:
    """What a repository keeps of a linked worktree."""
    names = [name for name in ("commondir", "gitdir") if _is_file(workspace / path / name)]
    guard.denied += [f"{path}/{name}" for name in names]
    if names and not allow_config:
        guard.keep(f"{path}/config.worktree", "")


_SECTION: Final = re.compile(r"\[\s*([\w.-]+)")
_SETTING: Final = re.compile(r"\s*(?:\[[^\]]*\])?\s*(path|hookspath)\s*=\s*\"?([^\"#;\r\n]+)", re.IGNORECASE)


def _named_in_settings(workspace: Path, folder: Path, worktree: Path | None, guard: GitGuard) -> None:
    """Keep what in the workspace a repository's settings name: further settings, and a folder of hooks.

    That of hooks is relative to the working tree, settings to the file that names them.
    """
    todo = [folder / "config", folder / "config.worktree"]
    seen = set(todo)
    while todo:
        file = todo.pop()
        for section, key, value in _settings_in(file):
            if key == "path" and section in ("include", "includeif"):
                base, absent = file.parent, ""
            elif key == "hookspath" and section == "core" and worktree is not None:
                base, absent = worktree, FOLDER
            else:
                continue
            named = Path(os.path.normpath(base / value))
            inside = _relative(workspace, named)
            if inside is not None:
                _keep_way(workspace, inside, absent, guard)
            if not absent and named not in seen:
                seen.add(named)
                todo.append(named)


def _settings_in(file: Path) -> Iterator[tuple[str, str, str]]:
    """Yield section, key and value of the settings that may name files, both of the former in small letters."""
    section = ""
    for line in _read(file).splitlines():
        if found := _SECTION.match(line.strip()):
            section = found[1].lower()
        if setting := _SETTING.match(line):
            yield section, setting[1].lower(), setting[2].strip()


def _read(file: str | Path) -> str:
    """The text of a regular file, as far as settings may be long; nothing if there is none."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        data = os.read(descriptor, MAX_SETTINGS) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
    finally:
        os.close(descriptor)
    return data.decode("utf-8", "replace")


def _is_linked(folder: Path) -> bool:
    """Tell whether it is a linked worktree's, with its settings elsewhere."""
    return _read(folder / "commondir").strip() not in ("", COMMON_DIR.strip())


def _is_repository(folder: Path) -> bool:
    return all(os.path.lexists(folder / name) for name in _SHAPE)


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    try:
        return list(os.scandir(folder))
    except OSError:  # gone, no folder, or closed to us
        return []

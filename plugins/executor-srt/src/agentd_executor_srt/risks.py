"""Files of a workspace that other programs run or obey: git's hooks, settings, instructions, configuration of tests."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import attrs

__all__ = ["RiskyFile", "find_risky_files"]

MAX_ENTRIES = 500_000
MAX_READ = 1 << 20
SKIPPED = {".agentd", "node_modules", "__pycache__"}

_NAMES = {
    **dict.fromkeys((".envrc", ".env"), "direnv and programs that load it into their environment"),
    **dict.fromkeys(
        ("AGENTS.md", "CLAUDE.md", "GEMINI.md", ".cursorrules"), "instructions for coding agents"
    ),
    **dict.fromkeys(
        ("conftest.py", "sitecustomize.py", "usercustomize.py", "tox.ini", "noxfile.py"),
        "run by Python's tools",
    ),
    **dict.fromkeys((".mcp.json", ".claude.json"), "commands that coding agents start"),
    **dict.fromkeys((".gitconfig", ".gitmodules", ".gitattributes"), "settings of git"),
    **dict.fromkeys(
        (".bashrc", ".bash_profile", ".profile", ".zshrc", ".zprofile", ".inputrc"), "read by shells"
    ),
    **dict.fromkeys(
        (".npmrc", ".yarnrc", ".yarnrc.yml", ".pnpmfile.cjs", "pip.conf", ".pypirc"), "settings of installers"
    ),
    **dict.fromkeys(
        (".pre-commit-config.yaml", "lefthook.yml", ".lefthook.yml"), "commands that git hooks run"
    ),
    **dict.fromkeys(
        (".vimrc", ".nvimrc", ".exrc", ".nvim.lua", ".dir-locals.el", ".ripgreprc"), "settings of editors"
    ),
    **dict.fromkeys((".gdbinit", ".lldbinit"), "run by debuggers"),
}
_NAMES |= dict.fromkeys((".tool-versions", "mise.toml", ".mise.toml"), "version managers run what it names")
_FOLDERS = {
    **dict.fromkeys((".vscode", ".idea", ".zed"), "tasks and settings of editors"),
    **dict.fromkeys((".claude", ".cursor", ".codex", ".gemini"), "settings of coding agents"),
    **dict.fromkeys((".husky", ".githooks"), "git hooks"),
}
# Keys and sections whose value git runs, or takes more settings or hooks from. A key may follow its section's header on
# the same line.
_GIT_RUNS = re.compile(
    rb"(?:^|\])[ \t]*(?:fsmonitor|\w*hooks?path|\w*hook|\w*command|\w*cmd|pager|editor|\w*askpass|textconv|driver|clean"
    rb"|smudge|process|helper|\w*program|path|external|\w*insteadof|gitproxy|uploadpack|receivepack|worktree"
    rb"|difffilter|templatedir|attributesfile|smtpserver|tunnel|httpd|vcs|update)[ \t]*=|"
    rb"(?:^|\])[ \t]*\[[ \t]*(?:include|includeif|alias|pager)\b",
    re.IGNORECASE | re.MULTILINE,
)


@attrs.frozen
class RiskyFile:
    """A file that another program may act on. `path` is relative to the workspace."""

    path: str
    reason: str
    digest: str


def find_risky_files(workspace: Path) -> dict[str, RiskyFile]:
    """Return them by path. No link is followed; folders of installed packages are left out.

    Code may change what is looked at meanwhile, or close it to us: what cannot be read is passed over.
    """
    found: dict[str, RiskyFile] = {}
    todo = [("", "")]
    seen = 0
    while todo:
        folder, reason = todo.pop()
        entries = _entries(workspace, folder)
        if {"HEAD", "objects", "refs"} <= {entry.name for entry in entries}:
            # git takes every folder of this shape for a repository, whatever its name, and whatever else is in it
            _repository(workspace, folder, found)
        for entry in entries:
            seen += 1
            path = os.path.join(folder, entry.name)
            if entry.name == ".git" and not entry.is_dir(follow_symlinks=False):
                _add(workspace, path, "leads git to another folder", found)
            elif entry.name == ".git":
                _repository(workspace, path, found)
                todo.append((f"{path}/modules", ""))  # repositories of submodules
            elif entry.is_dir(follow_symlinks=False):
                if entry.name not in SKIPPED and not (folder == "" and entry.name == "skills"):
                    todo.append((path, reason or _FOLDERS.get(entry.name, "")))
            else:
                _file(entry, path, reason or _NAMES.get(entry.name, ""), found)
        if seen > MAX_ENTRIES:
            found["."] = RiskyFile(".", f"has more than {MAX_ENTRIES} files, and not all were looked at", "")
            break
    return found


def _entries(workspace: Path, folder: str) -> list[os.DirEntry[str]]:
    """The entries of a folder, or none if it is gone, closed, or has become a link."""
    try:
        if not stat.S_ISDIR(os.lstat(workspace / folder).st_mode):
            return []
        return list(os.scandir(workspace / folder))
    except OSError:
        return []


def _file(entry: os.DirEntry[str], path: str, reason: str, found: dict[str, RiskyFile]) -> None:
    try:
        about = entry.stat(follow_symlinks=False)
    except OSError:
        return
    if stat.S_ISREG(about.st_mode) and about.st_mode & 0o6000:
        reason = "has the rights of its owner, whoever runs it (setuid)"
    if (reason and stat.S_ISREG(about.st_mode) and about.st_size) or (reason and stat.S_ISLNK(about.st_mode)):
        found[path] = RiskyFile(path, reason, _digest(entry.path))


def _read(path: str) -> bytes:
    """The first bytes of a regular file; of nothing else, for a FIFO would hold us up."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # gone, a link, or closed to us
        return b""
    try:
        regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        return os.read(descriptor, MAX_READ) if regular else b""
    finally:
        os.close(descriptor)


def _digest(path: str) -> str:
    """The hash of a file's first bytes, its mode and its size, or of where a link leads; never of what that is."""
    import hashlib

    try:
        about = os.lstat(path)
        data = os.fsencode(os.readlink(path)) if stat.S_ISLNK(about.st_mode) else _read(path)
    except OSError:
        return ""
    return hashlib.blake2b(b"%o %d %s" % (about.st_mode, about.st_size, data), digest_size=16).hexdigest()


def _repository(workspace: Path, path: str, found: dict[str, RiskyFile]) -> None:
    """Look at hooks that git would run, and at settings that name commands."""
    for name in ("hooks", "modules", "config", "config.worktree", "commondir"):
        if os.path.islink(workspace / path / name):
            _add(workspace, os.path.join(path, name), "leads git to another place", found)
    for hook in _entries(workspace, os.path.join(path, "hooks")):
        if not hook.name.endswith(".sample") and _is_executable(hook):
            _add(workspace, os.path.join(path, "hooks", hook.name), "run by git", found)
    for name in ("config", "config.worktree"):
        if _GIT_RUNS.search(_read(str(workspace / path / name))):
            _add(workspace, os.path.join(path, name), "git runs commands that it names", found)


def _is_executable(entry: os.DirEntry[str]) -> bool:
    try:
        return bool(entry.stat(follow_symlinks=False).st_mode & 0o111)
    except OSError:
        return False


def _add(workspace: Path, path: str, reason: str, found: dict[str, RiskyFile]) -> None:
    found[path] = RiskyFile(path, reason, _digest(str(workspace / path)))

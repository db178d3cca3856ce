"""Files of a workspace that other programs run or obey: git's hooks, settings, instructions, configuration of tests."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import BinaryIO

import attrs
from agentd_runner.host.placeholders import COMMON_DIR

from agentd_executor_srt.risky_names import file_reason, folder_reason

__all__ = ["RiskyFile", "find_risky_files"]

MAX_ENTRIES = 500_000
MAX_SETTINGS = 1 << 20
"""How long settings of git may be; longer ones are told for that alone."""
MAX_HASHED = 64 << 20
# Installed packages, caches and what is shown to the model: only repositories are looked for there.
PACKAGES = {".agentd", "node_modules", "__pycache__"}

# Keys and sections whose value git runs, or takes more settings or hooks from; and addresses that name a helper to run
# (`ext::...`). A key may follow its section's header on the same line, and what git takes for white space is more than
# spaces.
_GIT_RUNS = re.compile(
    rb"(?:^|\])[ \t\r\f\v]*(?:fsmonitor|\w*hooks?path|\w*hook|\w*command|\w*cmd|pager|editor|\w*askpass|textconv|driver"
    rb"|clean|smudge|process|helper|\w*program|path|external|\w*insteadof|gitproxy|uploadpack|receivepack|worktree"
    rb"|difffilter|templatedir|attributesfile|smtpserver|tunnel|httpd|vcs|update)[ \t]*=|"
    rb"(?:^|\])[ \t\r\f\v]*\[[ \t]*(?:include|includeif|alias|pager)\b|"
    rb"(?:^|\])[ \t\r\f\v]*\w*url[ \t]*=[^\n:]*::",
    re.IGNORECASE | re.MULTILINE,
)


@attrs.frozen
class RiskyFile:
    """A file that another program may act on. `path` is relative to the workspace."""

    path: str
    reason: str
    digest: str


def find_risky_files(workspace: Path) -> dict[str, RiskyFile]:
    """Return them by path. No link is followed; of folders of installed packages, repositories alone are looked at.

    Code may change what is looked at meanwhile, or close it to us: what cannot be read is passed over.
    """
    found: dict[str, RiskyFile] = {}
    todo = [("", "", False)]
    seen = 0
    while todo:
        folder, reason, packages = todo.pop()
        entries = _entries(workspace, folder)
        names = {entry.name for entry in entries}
        if "HEAD" in names and ("commondir" in names or {"objects", "refs"} <= names):
            # git takes every folder of this shape for a repository, whatever its name, and whatever else is in it
            _repository(workspace, folder, found)
        for entry in entries:
            seen += 1
            path = os.path.join(folder, entry.name)
            if entry.name == ".git" and not entry.is_dir(follow_symlinks=False):
                _add(workspace, path, "leads git to another folder", found)
            elif entry.name == ".git":
                _repository(workspace, path, found)
                todo.append((f"{path}/modules", "", packages))  # repositories of submodules
            elif entry.is_dir(follow_symlinks=False):
                below = packages or entry.name in PACKAGES or path == "skills"
                todo.append((path, "" if below else reason or folder_reason(entry.name), below))
            elif not packages:
                _file(entry, path, reason or file_reason(os.path.basename(folder), entry.name), found)
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
    if not reason:
        return
    try:
        about = entry.stat(follow_symlinks=False)
    except OSError:
        return
    if (stat.S_ISREG(about.st_mode) and about.st_size) or stat.S_ISLNK(about.st_mode):
        found[path] = RiskyFile(path, reason, _digest(entry.path))


def _open(path: str) -> BinaryIO | None:
    """Open a regular file, and nothing else: a FIFO would hold us up."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # gone, a link, or closed to us
        return None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    return open(descriptor, "rb", buffering=0)


def _read(path: str) -> bytes:
    """The first bytes of a regular file, one more than settings may have."""
    file = _open(path)
    if file is None:
        return b""
    with file:
        return file.read(MAX_SETTINGS + 1)


def _digest(path: str) -> str:
    """The hash of a file's content, its mode and its size, or of where a link leads; never of what that is."""
    import hashlib

    try:
        about = os.lstat(path)
        link = os.fsencode(os.readlink(path)) if stat.S_ISLNK(about.st_mode) else b""
    except OSError:
        return ""
    digest = hashlib.blake2b(b"%o %d %s" % (about.st_mode, about.st_size, link), digest_size=16)
    if about.st_size > MAX_HASHED:
        digest.update(b"%d" % about.st_mtime_ns)
    elif file := _open(path):
        with file:
            while data := file.read(1 << 20):
                digest.update(data)
    return digest.hexdigest()


def _repository(workspace: Path, path: str, found: dict[str, RiskyFile]) -> None:
    """Look at hooks that git would run, at settings that name commands, and at what leads git elsewhere."""
    for name in ("hooks", "modules", "worktrees", "config", "config.worktree", "commondir"):
        if os.path.islink(workspace / path / name):
            _add(workspace, os.path.join(path, name), "leads git to another place", found)
    for hook in _entries(workspace, os.path.join(path, "hooks")):
        if not hook.name.endswith(".sample") and _is_executable(hook):
            _add(workspace, os.path.join(path, "hooks", hook.name), "run by git", found)
    _settings(workspace, path, (b"", COMMON_DIR.encode()), found)
    for linked in _entries(workspace, os.path.join(path, "worktrees")):
        _settings(workspace, os.path.join(path, "worktrees", linked.name), (b"", b"../..\n"), found)


def _settings(workspace: Path, path: str, harmless: tuple[bytes, ...], found: dict[str, RiskyFile]) -> None:
    for name in ("config", "config.worktree"):
        text = _read(str(workspace / path / name)).removeprefix(b"\xef\xbb\xbf")
        if len(text) > MAX_SETTINGS:
            _add(workspace, os.path.join(path, name), "settings of git, too long to be looked through", found)
        elif _GIT_RUNS.search(text):
            _add(workspace, os.path.join(path, name), "git runs commands that it names", found)
    if _read(str(workspace / path / "commondir")) not in harmless:
        _add(workspace, os.path.join(path, "commondir"), "leads git to another place", found)


def _is_executable(entry: os.DirEntry[str]) -> bool:
    try:
        return bool(entry.stat(follow_symlinks=False).st_mode & 0o111)
    except OSError:
        return False


def _add(workspace: Path, path: str, reason: str, found: dict[str, RiskyFile]) -> None:
    found[path] = RiskyFile(path, reason, _digest(str(workspace / path)))

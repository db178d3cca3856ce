"""What a folder is like, in plain data, read in the simplest way: the model that snapshots are compared with."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

__all__ = ["describe", "run_unprivileged", "write"]


def describe(root: Path | str | bytes) -> dict[bytes, Any]:
    """Everything that a restore must bring back, by relative path.

    Hard links are compared as groups of names. Sockets, FIFOs and agentd's own folder are no part of it.
    """
    top = os.fsencode(root)
    found: dict[bytes, Any] = {b"": _entry(top)}
    inodes: dict[int, list[bytes]] = {}
    for folder, folders, files in os.walk(top):
        if folder == top:
            folders[:] = [name for name in folders if not name.startswith(b".agentd")]
        for name in [*folders, *files]:
            path = os.path.join(folder, name)
            entry = _entry(path)
            if entry is None:
                continue
            relative = os.path.relpath(path, top)
            found[relative] = entry
            status = os.lstat(path)
            if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
                inodes.setdefault(status.st_ino, []).append(relative)
    for names in inodes.values():
        for name in names:
            found[name] = (*found[name], tuple(sorted(names)))
    return found


def _entry(path: bytes) -> Any:
    status = os.lstat(path)
    mode = status.st_mode & 0o1777
    if stat.S_ISLNK(status.st_mode):
        return "link", os.readlink(path), status.st_mtime_ns
    if stat.S_ISDIR(status.st_mode):
        return "folder", mode, status.st_mtime_ns
    if stat.S_ISREG(status.st_mode):
        with open(path, "rb") as file:
            return "file", mode, status.st_mtime_ns, file.read()
    return None


def write(root: Path, files: dict[str, str | bytes | None]) -> None:
    """Write files, with their folders; None removes one."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.unlink()
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content)


_DROP = """
import fcntl, json, os, stat, sys
from agentd_snapshots import LeftOut, Snapshots
from snapshot_trees import describe, write
Snapshots("warm", "warm-base").snapshot() if not os.makedirs("warm") else None
if os.geteuid() == 0:  # not earlier: the interpreter may lie where that user cannot read
    os.chown(".", 65534, 65534); os.setgroups([]); os.setgid(65534); os.setuid(65534)
"""


def run_unprivileged(script: str) -> None:
    """Run Python source as a user without privileges in a new temporary folder, its current directory."""
    folder = tempfile.mkdtemp(prefix="agentd-snap-", dir="/tmp")
    try:
        done = subprocess.run(
            [sys.executable, "-B", "-c", _DROP + script],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
    finally:
        _open_up(folder)
        shutil.rmtree(folder)


def _open_up(folder: str) -> None:
    for at, _, _ in os.walk(folder):
        for name in os.listdir(at):
            path = os.path.join(at, name)
            if os.path.isdir(path) and not os.path.islink(path):
                os.chmod(path, 0o700)

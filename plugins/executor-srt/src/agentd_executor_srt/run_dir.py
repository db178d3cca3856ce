"""A sandbox's own folder on the host, for srt's settings and sockets, and the one that all of a user's lie in.

srt's settings name programs that it runs outside. Code that may write to `/tmp` (`allow_write`) must therefore not
reach the folder of another session: all of them lie in one, which every sandbox keeps from its code (`settings`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import stat
import tempfile
from pathlib import Path

from agentd_executor_srt.handover import MISSED

__all__ = ["make_run_dir", "remove_run_dir", "run_base"]

log = logging.getLogger("agentd.executor.srt")


def make_run_dir() -> Path:
    """Make a folder for one sandbox: with a short name, for its sockets' sake, and a file that `verify` looks for."""
    made = _make()
    hidden = made / "hidden"
    hidden.mkdir()
    (hidden / "file").write_text("hidden\n")
    return made


def run_base(run_dir: Path) -> Path:
    """Return the folder of all of this user's sandboxes, which `run_dir` lies in. The last to end removes it."""
    return run_dir.parent


def remove_run_dir(run_dir: Path) -> None:
    """Remove what the supervisor has left of it, and log what it could not give back at the end."""
    if missed := _missed(run_dir):
        log.warning(
            "files still belong to the sandbox's user (the next session here tries again): %s", missed
        )
    shutil.rmtree(run_dir, ignore_errors=True)
    with contextlib.suppress(OSError):  # other sandboxes are in it
        run_base(run_dir).rmdir()


def _missed(run_dir: Path) -> str:
    try:
        missed = (run_dir / MISSED).read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return ", ".join(f"{what!a}" for what in missed[:20]) + (
        f" and {len(missed) - 20} more" if missed[20:] else ""
    )


def _make() -> Path:
    while True:
        try:
            return Path(tempfile.mkdtemp(prefix="", dir=_base()))
        except FileNotFoundError:  # the last sandbox has just removed the base
            continue


def _base() -> Path:
    """Return this user's folder, made if it is not there; one of our own where somebody else has taken its name."""
    uid = os.geteuid()
    folder = Path(tempfile.gettempdir(), f"agentd-srt-{uid}")
    mode = 0o700 if uid else 0o711  # root's sandboxes run as other users, who know their folder's name
    try:
        folder.mkdir(mode=mode)
        folder.chmod(mode)  # whatever the umask
    except FileExistsError:
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != uid or stat.S_IMODE(found.st_mode) & ~mode:
            folder = Path(tempfile.mkdtemp(prefix="agentd-srt-"))
            folder.chmod(mode)
    return folder

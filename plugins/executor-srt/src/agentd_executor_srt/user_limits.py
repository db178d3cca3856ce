"""What the kernel counts for each user: a sandbox with the user's own id may take half of it, and no more.

Used by the supervisor, with the standard library alone, for what becomes srt. A user namespace of its own has limits of
its own, and what is taken in it counts there as well as outside. As root there is no need: code has an id of its own.
"""

from __future__ import annotations

import os

__all__ = ["halve_user_limits"]

CLONE_NEWUSER = 0x10000000
APPARMOR = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns"
LIMITS = {
    "/proc/sys/fs/inotify/max_user_instances": "/proc/sys/user/max_inotify_instances",
    "/proc/sys/fs/inotify/max_user_watches": "/proc/sys/user/max_inotify_watches",
}
"""By the user's limit that of a namespace."""


def halve_user_limits() -> None:
    """Move this process, which must have a single thread, into a user namespace with half of the user's limits.

    Where the kernel refuses it, the limits stay as they are.
    """
    import ctypes

    halves = {inner: int(said) // 2 for outer, inner in LIMITS.items() if (said := _read(outer)).isdigit()}
    # Such a namespace would keep bubblewrap from making one; and bubblewrap alone may.
    if _read(APPARMOR) == "1":
        return
    uid, gid = os.getuid(), os.getgid()
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWUSER):
        return
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"{uid} {uid} 1")
    _write("/proc/self/gid_map", f"{gid} {gid} 1")
    for inner, half in halves.items():
        try:
            _write(inner, str(half))
        except OSError:  # in a container, /proc/sys is often read-only
            pass


def _read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return ""


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)

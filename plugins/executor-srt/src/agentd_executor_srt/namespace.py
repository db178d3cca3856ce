"""A view of the file system in which an unprivileged user reaches what lies in closed folders of root.

Used by the supervisor as root. In a mount namespace of this process alone, each folder on the way that is closed to
others (`/root`, say) is covered by an empty one, in which just the wanted paths are. The host's view stays as it is.
"""

from __future__ import annotations

import ctypes
import os

__all__ = ["ClosedError", "closed_folder", "open_way"]

CLONE_NEWNS = 0x00020000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND, MS_REC, MS_SLAVE = 1, 2, 4, 32, 4096, 16384, 1 << 19


class ClosedError(Exception):
    """A path cannot be made reachable; the message says which and why."""


def closed_folder(path: str) -> str | None:
    """Return the first folder on the way to `path` that others may not enter, or None."""
    parts = path.strip("/").split("/")
    for count in range(1, len(parts)):
        folder = "/" + "/".join(parts[:count])
        if not os.stat(folder).st_mode & 0o001:
            return folder
    return None


def open_way(writable: list[str], readable: list[str]) -> None:
    """Make these absolute, resolved paths reachable for everybody, in a mount namespace of this process.

    Does nothing if they are. Raises `ClosedError`.
    """
    wanted = dict.fromkeys(readable, False) | dict.fromkeys(writable, True)
    found = {path: folder for path in wanted if (folder := closed_folder(path))}
    # What the user gets is not covered, however private it is: the cover would be read-only.
    closed = {
        path: folder
        for path, folder in found.items()
        if not any(f"{folder}/".startswith(f"{one}/") for one in writable)
    }
    if not closed:
        return
    held: dict[str, int] = {}
    try:
        _unshare()
        _mount("none", "/", None, MS_REC | MS_SLAVE)
        # Held open: after the first cover, their names lead nowhere.
        held = {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in closed}
        for folder in set(closed.values()):
            _mount("tmpfs", folder, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=1m")
        for path in sorted(closed):  # a folder comes before what it holds
            _make(path, held[path])
            _mount(f"/proc/self/fd/{held[path]}", path, None, MS_BIND | MS_REC)
            if not wanted[path]:
                _mount("none", path, None, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV)
        for folder in set(closed.values()):
            _mount("none", folder, None, MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV)
    except OSError as error:
        folder = next(iter(closed.values()))
        raise ClosedError(
            f"{folder} is closed to other users, and {next(iter(closed))} lies in it; a private view with a way "
            f"through needs the capability SYS_ADMIN ({error.strerror}): use folders that others may enter "
            "(chmod o+x), or do not run as root"
        ) from None
    finally:
        for descriptor in held.values():
            os.close(descriptor)


def _make(path: str, source: int) -> None:
    """Make the place that is mounted on."""
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    if os.path.lexists(path):
        return
    if os.path.isdir(f"/proc/self/fd/{source}"):
        os.mkdir(path, 0o755)
    else:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o644))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _unshare() -> None:
    if _libc().unshare(CLONE_NEWNS):
        _fail()


def _mount(source: str, target: str, kind: str | None, flags: int, data: str = "") -> None:
    encoded = (os.fsencode(source), os.fsencode(target), kind.encode() if kind else None)
    if _libc().mount(*encoded, ctypes.c_ulong(flags), data.encode() or None):
        _fail()


def _fail() -> None:
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number))

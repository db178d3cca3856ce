"""Whose a workspace is while a session of root runs in it: an unprivileged user that nobody else is.

Used by the supervisor (`supervisor.py`), with the standard library alone. A session gets a user id that no account
and no process has. What belongs to the workspace's owner goes to that id and back again at the end; what belongs to
others, or is linked from outside of the workspace, stays as it is. Sessions that share a workspace share the id, and
the last one gives back. A session that was killed altogether leaves the files to the next one, which gives them back.
"""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import stat
import time

from agentd_executor_srt.tree_walk import TreeWalk

TYPE_CHECKING = False
if TYPE_CHECKING:  # without importing typing, which takes longer than all the rest
    from collections.abc import Sequence

    from agentd_executor_srt.tree_walk import TreeEntry

__all__ = ["MISSED", "UIDS", "HandoverError", "Tenancy", "give_back_lost"]

UIDS = range(58000, 60000)
"""Where ids are taken from: below what systems give away by themselves, above what accounts use."""

MISSED = "missed"
"""The file in the run folder that says, at the end, what could not be given back."""

# Folders that are the system's, with all below them; and such as hold the folders of people and programs.
SYSTEM = ("bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "sbin", "sys", "usr")
TOP = ("", "home", "lost+found", "media", "mnt", "nix", "opt", "root", "run", "snap", "srv", "tmp", "var")
ENDING_S = 2.0  # how long a killed session's processes may take to end
LOCK_FOLDERS = ("/run/agentd-srt", "/var/tmp/.agentd-srt")


class HandoverError(Exception):
    """The workspace cannot be handed over; the message says why."""


class Tenancy:
    """A user id for one workspace, held until `give_back`.

    What was handed over is noted in the id's lock file, which the sessions that share the id hold: so the last of
    them gives back what all of them got, and a later one what a killed one has left.
    """

    def __init__(self, workspace: str, more: Sequence[str] = ()) -> None:
        """Choose the id and hand over the workspace, and those of the folders `more` that are not everybody's anyway.

        Raises `HandoverError`.
        """
        real = os.path.realpath(workspace)
        if real != workspace:  # code of a session around it has put a link there
            raise HandoverError(f"the way to the workspace {workspace} leads to {real} now; start anew")
        if _is_system_folder(workspace):
            raise HandoverError(
                f"root's sandbox works in a folder that is handed over to an unprivileged user, and {workspace} is not "
                "one to give away; give a folder of its own as the workspace"
            )
        self._folder = _lock_folder()
        with _Mutex(self._folder):
            used = _used_uids()
            _sweep(self._folder, used)
            self.uid = self._choose(workspace, used)
            folders = _noted(self._lock)
            folders.setdefault(workspace, self._owner(workspace, folders))
            for path in more:
                if _may_be_given(path):
                    folders.setdefault(path, self._owner(path, folders))
            _note(
                self._lock, folders
            )  # before anything changes: a crash must not leave files that nobody knows of
            self._held: dict[str, int] = {}
            for path in {workspace, *more} & set(folders):
                try:
                    self._held[path] = _open(path)
                    _give(self._held[path], folders[path][0], self.uid)
                except OSError as error:
                    raise HandoverError(
                        f"cannot hand {path} over to an unprivileged user: {error.strerror}"
                    ) from None

    def give_back(self) -> list[str]:
        """Give everything back, unless another session still uses the id; return what could not be reached, and why.

        The folders of this session are given back wherever they have been moved to meanwhile.
        """
        with _Mutex(self._folder):
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(self._lock)
                return []
            finally:
                held, self._held = self._held, {}
            try:
                return [f"{path}/{what}" for path, what in _settle(self._folder, self.uid, self._lock, held)]
            finally:
                for descriptor in held.values():
                    os.close(descriptor)

    def _choose(self, workspace: str, used: set[int]) -> int:
        there: int = os.stat(workspace).st_uid
        if there in UIDS and not _has_account(there):  # a live session's, or left by a killed one
            self._hold(there)
            return there
        start = int.from_bytes(os.urandom(2), "big") % len(UIDS)
        for uid in (*UIDS[start:], *UIDS[:start]):
            if uid not in used and not _has_account(uid) and not os.path.exists(f"{self._folder}/{uid}"):
                self._hold(uid)
                return int(uid)
        raise HandoverError(f"all user ids from {UIDS.start} to {UIDS.stop - 1} are in use")

    def _hold(self, uid: int) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._lock = os.open(f"{self._folder}/{uid}", flags, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_SH)

    def _owner(self, path: str, folders: dict[str, tuple[int, int]]) -> tuple[int, int]:
        """Whose a folder is, or was: of one that is handed over and not noted, the owner of what it is in."""
        while True:
            there = os.stat(path)
            if there.st_uid not in UIDS or _has_account(there.st_uid):
                return there.st_uid, there.st_gid
            path = os.path.dirname(path)
            if path in folders:
                return folders[path]


def give_back_lost() -> dict[str, list[str]]:
    """Give back what sessions that were killed altogether have left, or could not give back.

    Returns by folder what cannot be given back now either. Raises `HandoverError`. Waits a moment for
    processes of theirs that still end.
    """
    folder = _lock_folder()
    deadline = time.monotonic() + ENDING_S
    given: dict[str, list[str]] = {}
    while True:
        with _Mutex(folder):
            used = _used_uids()
            given |= _sweep(folder, used)
            ids = [name for name in os.listdir(folder) if name.isdigit() and int(name) in used]
            ending = any(_is_free(f"{folder}/{name}") for name in ids)
        if not ending or time.monotonic() > deadline:
            return given
        time.sleep(0.02)


def _is_free(lock: str) -> bool:
    descriptor = os.open(lock, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def _noted(lock: int) -> dict[str, tuple[int, int]]:
    """What was handed over, with its owner and group."""
    data = os.pread(lock, 1 << 20, 0)
    try:
        return {str(path): (int(uid), int(gid)) for path, uid, gid in json.loads(data)}
    except (ValueError, TypeError):  # new, or cut short by a crash
        return {}


def _settle(folder: str, uid: int, lock: int, held: dict[str, int] | None = None) -> list[tuple[str, str]]:
    """Give back what an id was given, and free the id; `lock` is held by nobody else, and closed.

    `held` has descriptors of folders that may have been moved. Returns what could not be given back, each with the
    folder that it is in; the id stays taken then, and the next session tries again.
    """
    missed: list[tuple[str, str]] = []
    left = {}
    for path, owner in _noted(lock).items():
        try:
            descriptor = os.dup(held[path]) if held and path in held else _open(path)
        except OSError:  # the host has removed it
            continue
        try:
            found = _take_back(descriptor, uid, owner)
        finally:
            os.close(descriptor)
        if found:
            left[path] = owner
            missed += [(path, what) for what in found]
    if left:
        _note(lock, left)
    else:
        os.unlink(f"{folder}/{uid}")
    os.close(lock)
    return missed


def _note(lock: int, folders: dict[str, tuple[int, int]]) -> None:
    data = json.dumps([(path, *owner) for path, owner in folders.items()]).encode()
    os.ftruncate(lock, 0)
    os.pwrite(lock, data, 0)


def _open(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _sweep(folder: str, used: set[int]) -> dict[str, list[str]]:
    """Give back what sessions that were killed altogether have left; return by folder what could not be given back."""
    found: dict[str, list[str]] = {}
    for name in os.listdir(folder):
        if not name.isdigit() or int(name) in used:  # something of it still ends
            continue
        lock = os.open(f"{folder}/{name}", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
        else:
            found.update({path: [] for path in _noted(lock)})
            for path, what in _settle(folder, int(name), lock):
                found[path].append(what)
    return found


def _is_system_folder(path: str) -> bool:
    home = os.path.realpath(pwd.getpwuid(os.getuid()).pw_dir)
    top, _, below = path.lstrip("/").partition("/")
    return top in SYSTEM or (top in TOP and not below) or path == home or home.startswith(f"{path}/")


def _may_be_given(path: str) -> bool:
    there = os.stat(path)
    ours = stat.S_ISDIR(there.st_mode) and there.st_uid not in UIDS and not there.st_mode & 0o002
    return ours and not _is_system_folder(path)


class _Mutex:
    """Sessions begin and end one after the other."""

    def __init__(self, folder: str) -> None:
        self._path = f"{folder}/lock"

    def __enter__(self) -> None:
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


def _lock_folder() -> str:
    for folder in LOCK_FOLDERS:
        try:
            os.mkdir(folder, 0o700)
        except FileExistsError:
            pass
        except OSError:
            continue
        there = os.lstat(folder)
        if stat.S_ISDIR(there.st_mode) and there.st_uid == 0 and not there.st_mode & 0o022:
            return folder
    raise HandoverError(f"no folder of root's for locks can be made: {' nor '.join(LOCK_FOLDERS)}")


def _has_account(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _used_uids() -> set[int]:
    used = set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                used.add(os.stat(f"/proc/{name}").st_uid)
            except OSError:  # it has ended meanwhile
                pass
    return used


# --- the files ----------------------------------------------------------------------------------


def _give(folder: int, owner: int, uid: int) -> None:
    """Hand over what is the owner's. What is linked from elsewhere too is not in our gift."""
    names: dict[int, int] = {}  # by inode, of files that have several names
    for entry in TreeWalk(folder):
        if entry.stat.st_uid == owner and _several(entry.stat):
            names[entry.stat.st_ino] = names.get(entry.stat.st_ino, 0) + 1
        elif entry.stat.st_uid == owner:
            _change(entry, owner, uid, -1)
    if names:
        for entry in TreeWalk(folder):
            if _several(entry.stat) and names.get(entry.stat.st_ino) == entry.stat.st_nlink:
                _change(entry, owner, uid, -1)
    _change_folder(folder, owner, uid, -1)


def _several(found: os.stat_result) -> bool:
    return found.st_nlink > 1 and not stat.S_ISDIR(found.st_mode)


def _take_back(folder: int, uid: int, owner: tuple[int, int]) -> list[str]:
    walk = TreeWalk(folder)
    for entry in walk:
        if entry.stat.st_uid == uid and not _change(entry, uid, owner[0], _group(entry.stat, uid, owner)):
            walk.missed.append(f"{entry.name}: its owner cannot be changed")
    _change_folder(folder, uid, owner[0], _group(os.fstat(folder), uid, owner))
    return walk.missed


def _group(found: os.stat_result, uid: int, owner: tuple[int, int]) -> int:
    return owner[1] if found.st_gid == uid else -1


def _change_folder(folder: int, before: int, uid: int, gid: int) -> None:
    if os.fstat(folder).st_uid == before:  # and no other folder that took its place meanwhile
        os.fchown(folder, uid, gid)


def _change(entry: TreeEntry, before: int, uid: int, gid: int) -> bool:
    """Change the owner of exactly the file that was looked at, and of no other that took its name.

    Returns whether that is done, or is not to be done.
    """
    if before not in UIDS and stat.S_ISREG(entry.stat.st_mode) and entry.stat.st_mode & 0o6000:
        return True  # the owner's own setuid program would lose its bit
    try:
        descriptor = os.open(entry.name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=entry.parent)
    except OSError:  # it is gone
        return True
    try:
        found = os.fstat(descriptor)
        if (found.st_ino, found.st_uid) == (entry.stat.st_ino, before):
            os.chown(f"/proc/self/fd/{descriptor}", uid, gid)
        return True
    except OSError:  # an immutable file
        return False
    finally:
        os.close(descriptor)

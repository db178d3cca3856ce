"""Whose a workspace is while a session of root runs in it: an unprivileged user that nobody else is.

Used by the supervisor (`supervisor.py`), with the standard library alone. A session gets a user id that no account
and no process has. What belongs to the workspace's owner goes to that id and back again at the end; what belongs to
others, or is linked from outside of the workspace, stays as it is. Sessions that share a workspace share the id, and
the last one gives back. A session that was killed altogether leaves the files to the next one, which gives them back.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import stat
import time

from agentd_executor_srt.ownership import UIDS, TreeGift, take_back

TYPE_CHECKING = False
if TYPE_CHECKING:  # without importing typing, which takes longer than all the rest
    from collections.abc import Sequence

__all__ = ["GIVING_BACK_S", "MISSED", "UIDS", "HandoverError", "Tenancy", "give_back_lost"]

MISSED = "missed"
"""The file in the run folder that says, at the end, what could not be given back."""

# Folders that are the system's, with all below them; and such as hold the folders of people and programs.
SYSTEM = ("bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "sbin", "sys", "usr")
TOP = ("", "home", "lost+found", "media", "mnt", "nix", "opt", "root", "run", "snap", "srv", "tmp", "var")
ENDING_S = 2.0  # how long a killed session's processes may take to end
GIVING_BACK_S = 120.0  # how long giving those back may take at the end: millions of files
LOCK_FOLDERS = ("/run/agentd-srt", "/var/tmp/.agentd-srt")


class HandoverError(Exception):
    """The workspace cannot be handed over; the message says why."""


class Tenancy:
    """A user id for one workspace, held until `give_back` and `give_back_more`.

    What was handed over is noted in the id's lock file, which the sessions that share the id hold: so the last of
    them gives back what all of them got, and a later one what a killed one has left. While files are given back, the
    lock is that session's alone.
    """

    def __init__(self, workspace: str, more: Sequence[str] = (), giving_s: float = 1.0) -> None:
        """Choose the id and hand over the workspace, and those of the folders `more` that are not everybody's anyway.

        What is left to do in those after `giving_s` is up to `hand_on`. Waits for sessions that are still giving such a
        folder back. Raises `HandoverError`.
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
        self._more = tuple(path for path in more if path != workspace)
        self._held: dict[str, int] = {}
        self._gifts: list[TreeGift] = []
        self._left: dict[str, tuple[int, int]] = {}
        self._later: dict[str, tuple[int, int]] = {}
        deadline = time.monotonic() + GIVING_BACK_S
        while not self._begin(workspace, giving_s):
            if time.monotonic() > deadline:
                raise HandoverError("another sandbox still gives a folder back to its owner; try again later")
            time.sleep(0.02)

    def _begin(self, workspace: str, giving_s: float) -> bool:
        """Hand over, unless a folder is just being given back."""
        with _Mutex(self._folder):
            if _being_given_back(self._folder, self._more):
                return False
            used = _used_uids()
            _sweep(self._folder, used)
            try:
                self.uid = self._choose(workspace, used)
            except BlockingIOError:
                return False
            folders = _noted(self._lock)
            folders.setdefault(workspace, self._owner(workspace, folders))
            for path in self._more:
                if _may_be_given(path):
                    folders.setdefault(path, self._owner(path, folders))
            # Before anything changes: a crash must not leave files that nobody knows of.
            _note(self._lock, folders)
            self._give(workspace, folders[workspace][0])
            self._gifts.pop().go_on()
            for path in self._more:
                if path in folders:
                    self._give(path, folders[path][0])
            self.hand_on(time.monotonic() + giving_s)
            for gift in self._gifts:
                gift.code_runs = True
            return True

    def _give(self, path: str, owner: int) -> None:
        try:
            self._held[path] = _open(path)
            self._gifts.append(TreeGift(self._held[path], owner, self.uid))
        except OSError as error:
            raise HandoverError(
                f"cannot hand {path} over to an unprivileged user: {error.strerror}"
            ) from None

    def hand_on(self, deadline: float) -> bool:
        """Go on handing over until `deadline`, of the monotonic clock; return whether there is more to do."""
        while self._gifts:
            if not self._gifts[0].go_on(deadline):
                return True
            self._gifts.pop(0)
        return False

    def give_back(self) -> list[str]:
        """Give the workspace back, unless another session still uses the id; return what was not reached, and why.

        The folders of this session are given back wherever they have been moved to meanwhile. What is left to do is up
        to `give_back_more`.
        """
        while self._gifts:
            self._gifts.pop().close()
        with _Mutex(self._folder):
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._let_go()
                return []
            noted = _noted(self._lock)
            self._later = {path: noted.pop(path) for path in self._more if path in noted}
            missed = self._take_back(noted, None)
            if not self._later:
                self._free()
            return missed

    def give_back_more(self, giving_back_s: float = GIVING_BACK_S) -> list[str]:
        """Give the other folders back, while other sessions begin and end; return what was not reached, and why.

        The id stays taken for that, and the next session goes on with it.
        """
        if not self._later:
            return []
        missed = self._take_back(self._later, time.monotonic() + giving_back_s)
        with _Mutex(self._folder):
            self._free()
        return missed

    def _take_back(self, folders: dict[str, tuple[int, int]], deadline: float | None) -> list[str]:
        left, missed = _take_back_each(folders, self.uid, self._held, deadline)
        self._left |= left
        return [f"{path}/{what}" for path, what in missed]

    def _free(self) -> None:
        """Forget what was given back, and let go of the id."""
        _forget(self._folder, self.uid, self._lock, self._left)
        self._let_go()

    def _let_go(self) -> None:
        for descriptor in (self._lock, *self._held.values()):
            os.close(descriptor)
        self._held, self._later = {}, {}

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
        """Share an id. Raises `BlockingIOError` if what it has is being given back."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._lock = os.open(f"{self._folder}/{uid}", flags, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise

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
    fields = os.pread(lock, 1 << 20, 0).split(b"\0")
    try:
        return {
            os.fsdecode(path): (int(uid), int(gid))
            for path, uid, gid in zip(*[iter(fields[:-1])] * 3, strict=True)
        }
    except ValueError:  # cut short by a crash
        return {}


def _being_given_back(folder: str, paths: Sequence[str]) -> bool:
    """Tell whether a session that has ended is still at work in one of these folders, or above."""
    for name in os.listdir(folder) if paths else ():
        if not name.isdigit():
            continue
        lock = os.open(f"{folder}/{name}", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)  # the mutex keeps others from noticing
        except BlockingIOError:
            if any(f"{path}/".startswith(f"{noted}/") for path in paths for noted in _noted(lock)):
                return True
        finally:
            os.close(lock)
    return False


def _take_back_each(
    folders: dict[str, tuple[int, int]], uid: int, held: dict[str, int], deadline: float | None = None
) -> tuple[dict[str, tuple[int, int]], list[tuple[str, str]]]:
    """Give folders back; return those that are not all given back, and what in them is not, each with its folder.

    `held` has descriptors of folders that may have been moved.
    """
    left: dict[str, tuple[int, int]] = {}
    missed: list[tuple[str, str]] = []
    for path, owner in folders.items():
        try:
            descriptor = os.dup(held[path]) if path in held else _open(path)
        except OSError:  # the host has removed it
            continue
        try:
            found = take_back(descriptor, uid, owner, deadline)
        finally:
            os.close(descriptor)
        if found:
            left[path] = owner
            missed += [(path, what) for what in found]
    return left, missed


def _forget(folder: str, uid: int, lock: int, left: dict[str, tuple[int, int]]) -> None:
    """Free an id, or note what is left to give back: the id stays taken then, and the next session tries again."""
    if left:
        _note(lock, left)
    else:
        os.unlink(f"{folder}/{uid}")


def _note(lock: int, folders: dict[str, tuple[int, int]]) -> None:
    data = b"".join(b"%s\0%d\0%d\0" % (os.fsencode(path), *owner) for path, owner in folders.items())
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
            noted = _noted(lock)
            found.update({path: [] for path in noted})
            left, missed = _take_back_each(noted, int(name), {})
            _forget(folder, int(name), lock, left)
            os.close(lock)
            for path, what in missed:
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

"""Files and folders that stand in a workspace for absent ones which code must not make, for as long as sandboxes run.

A sandbox keeps code from writing to what is there. So agentd makes what is not there before the sandbox starts: an
empty file, a folder, or a file whose content says nothing new to the program that reads it. Sessions in one workspace
share them, whatever their executors are, and the last one takes them away.

What a session has made is written down in the *mark* of its executor, a folder in the user's state folder that code
cannot reach (`agentd.workspace.unfinished_dir`, which holds the marks of all executors): a record for each session,
locked for as long as the process lives that made it. A session that was killed altogether leaves a record that nobody
holds, and whatever opens the workspace next does what is left to do.

The standard library alone: `native` uses it in the host, `srt` in a supervisor that is a program of its own.
"""

from __future__ import annotations

import fcntl
import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:  # without importing typing, which takes longer than all the rest
    from collections.abc import Mapping

__all__ = ["FOLDER", "StandIns", "left_behind", "standing_in"]

MARKS = "executor."
"""How the names of executors' marks begin."""

FOLDER = "/"
"""The content that means a folder: no file of ours consists of it."""

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_FOLDER = _READ | os.O_DIRECTORY


class StandIns:
    """What stands in for absent files, from its making until `remove`."""

    def __init__(self, mark: str, workspace: str, wanted: Mapping[str, str]) -> None:
        """Make what is absent of `wanted`: content, or `FOLDER`, by relative path; folders come before what they hold.

        What others have made is shared; what a killed session has left is shared, or removed. Raises `OSError`.
        """
        self._mark = mark
        self._record = -1
        self._root = os.open(workspace, _OPEN_FOLDER)
        try:
            with _MarkLock(mark):
                self.names = tuple(self._make(wanted))
                """What stands in, by paths relative to the workspace."""
        except BaseException:
            self.remove()
            raise

    def _make(self, wanted: Mapping[str, str]) -> Mapping[str, str]:
        records = _all_records(os.path.dirname(self._mark))
        shared = {
            name: what for each in records for name, what in each.made.items() if wanted.get(name) == what
        }
        absent = {name: what for name, what in wanted.items() if not _is_there(self._root, name)}
        # Before anything is made: a crash must not leave files that nobody knows of.
        self._record = _hold_record(self._mark)
        _write(self._record, shared | absent)
        made = {name: what for name, what in absent.items() if _make(self._root, name, what)}
        _write(self._record, shared | made)
        _drop(self._root, self._mark, _killed(self._mark))
        return shared | made

    def remove(self) -> None:
        """Take them away, but those that another session in the workspace needs."""
        try:
            if self._record >= 0:
                with _MarkLock(self._mark):
                    path = os.readlink(f"/proc/self/fd/{self._record}")
                    _unlock(self._record)
                    _drop(self._root, self._mark, [SessionRecord(path)])
        finally:
            os.close(self._root)

    def let_go(self) -> None:
        """Forget them, in a forked child: they are the parent's, and so is the lock that says that it lives."""
        os.close(self._record)
        os.close(self._root)


class SessionRecord:
    """What one session has made, or found made by others and shares."""

    __slots__ = ("live", "made", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self.made: dict[str, str] = {}
        self.live = False
        descriptor = os.open(path, _READ)
        with open(descriptor, "rb") as file:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                self.live = True
            fields = [os.fsdecode(field) for field in file.read().split(b"\0")[:-1]]
            if len(fields) % 2 == 0:  # else cut short by a crash, before anything was made
                self.made = dict(zip(fields[::2], fields[1::2], strict=True))


class _MarkLock:
    """One session after the other begins or ends in a workspace, of whatever executor. The mark is there inside."""

    def __init__(self, mark: str) -> None:
        self._mark = mark
        self._marks = os.path.dirname(mark)

    def __enter__(self) -> None:
        while True:
            os.makedirs(self._mark, mode=0o700, exist_ok=True)
            try:
                self._held = os.open(self._marks, _OPEN_FOLDER)
            except FileNotFoundError:
                continue
            fcntl.flock(self._held, fcntl.LOCK_EX)
            if os.path.isdir(self._mark) and self._is_held():
                return
            os.close(self._held)  # the last session has removed it meanwhile

    def _is_held(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._held), os.stat(self._marks))
        except FileNotFoundError:
            return False

    def __exit__(self, *_: object) -> None:
        for folder in (self._mark, self._marks):
            try:
                os.rmdir(folder)
            except OSError:  # others are there
                break
        _unlock(self._held)


def _unlock(descriptor: int) -> None:
    fcntl.flock(descriptor, fcntl.LOCK_UN)  # a child that a thread is just forking may hold it, too
    os.close(descriptor)


def standing_in(marks: str) -> list[str]:
    """Return the names that sessions in a workspace have made, whether they live or were killed.

    `marks` is the folder of all executors' marks of that workspace.
    """
    return list(dict.fromkeys(name for record in _all_records(marks) for name in record.made))


def left_behind(mark: str, workspace: str) -> list[str]:
    """Take away what killed sessions have left, and return its names."""
    root = os.open(workspace, _OPEN_FOLDER)
    try:
        with _MarkLock(mark):
            return _drop(root, mark, _killed(mark))
    finally:
        os.close(root)


def _records(mark: str) -> list[SessionRecord]:
    found = []
    try:
        names = os.listdir(mark)
    except FileNotFoundError:
        return []
    for name in sorted(names):
        try:
            found.append(SessionRecord(f"{mark}/{name}"))
        except FileNotFoundError:  # its session has just ended
            continue
    return found


def _all_records(marks: str) -> list[SessionRecord]:
    try:
        found = sorted(name for name in os.listdir(marks) if name.startswith(MARKS))
    except FileNotFoundError:
        return []
    return [record for name in found for record in _records(f"{marks}/{name}")]


def _killed(mark: str) -> list[SessionRecord]:
    return [record for record in _records(mark) if not record.live]


def _hold_record(mark: str) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(f"{mark}/{os.getpid()}-{os.urandom(4).hex()}", flags, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def _write(record: int, made: Mapping[str, str]) -> None:
    data = b"".join(os.fsencode(f"{name}\0{what}\0") for name, what in made.items())
    os.ftruncate(record, 0)
    os.pwrite(record, data, 0)


def _drop(root: int, mark: str, ended: list[SessionRecord]) -> list[str]:
    """Remove what ended sessions have made and living ones do not share; return the names of what was there."""
    records = _all_records(os.path.dirname(mark)) if ended else []
    kept = {name for record in records if record.live for name in record.made}
    made = {name: what for record in ended for name, what in record.made.items() if name not in kept}
    removed = [name for name in sorted(made, key=len, reverse=True) if _remove(root, name, made[name])]
    for record in ended:
        os.unlink(record.path)
    return removed


# --- one of them -------------------------------------------------------------------------------


def _is_there(root: int, path: str) -> bool:
    try:
        with WayDown(root, path) as (folder, name):
            os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    except OSError:  # a link or a file is in the way, so nothing can be made there
        pass
    return True


def _make(root: int, path: str, what: str) -> bool:
    """Make one, following no link on the way; return whether it was absent, and its folder is there."""
    try:
        with WayDown(root, path) as (folder, name):
            if what == FOLDER:
                os.mkdir(name, 0o700, dir_fd=folder)
                descriptor = os.open(name, _OPEN_FOLDER, dir_fd=folder)
            else:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                descriptor = os.open(name, flags, 0o444, dir_fd=folder)
            try:
                if os.geteuid() == 0:
                    _hand_over(descriptor, os.fstat(folder))
                if what not in ("", FOLDER):
                    os.write(descriptor, what.encode())
            finally:
                os.close(descriptor)
    except (FileExistsError, FileNotFoundError, NotADirectoryError):
        return False
    return True


def _hand_over(descriptor: int, above: os.stat_result) -> None:
    """Give what root has made to the owner of the folder that it lies in.

    Code may have put another folder in its place by now: that would be root's own, and have something in it.
    """
    if above.st_uid and not (stat.S_ISDIR(os.fstat(descriptor).st_mode) and os.listdir(descriptor)):
        os.fchown(descriptor, above.st_uid, above.st_gid)


def _remove(root: int, path: str, what: str) -> bool:
    """Remove one that is still what was made, following no link on the way."""
    try:
        with WayDown(root, path) as (folder, name):
            if what == FOLDER:
                os.rmdir(name, dir_fd=folder)
            elif _says(folder, name, what):
                os.unlink(name, dir_fd=folder)
            else:
                return False
    except OSError:  # it is not there, or has become something
        return False
    return True


def _says(folder: int, name: str, what: str) -> bool:
    """Tell whether a regular file has this content, or only its beginning (a kill comes at any time), and no more."""
    there = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if not stat.S_ISREG(there.st_mode) or there.st_size > len(what.encode()):
        return False
    descriptor = os.open(name, _READ | os.O_NONBLOCK, dir_fd=folder)
    try:
        return what.encode().startswith(os.read(descriptor, len(what.encode()) + 1))
    finally:
        os.close(descriptor)


class WayDown:
    """The folder that a path below `root` is in, opened without following links, and its name in there."""

    def __init__(self, root: int, path: str) -> None:
        self._root = root
        *self._folders, self._name = path.split("/")
        self._opened: list[int] = []

    def __enter__(self) -> tuple[int, str]:
        folder = self._root
        try:
            for part in self._folders:
                folder = os.open(part, _OPEN_FOLDER, dir_fd=folder)
                self._opened.append(folder)
        except OSError:
            self.__exit__()
            raise
        return folder, self._name

    def __exit__(self, *_: object) -> None:
        for descriptor in self._opened:
            os.close(descriptor)

"""Reading a workspace into a tree, with a stat cache, while hostile code may change it."""

from __future__ import annotations

import errno
import os
import stat
import sys
import time
from collections.abc import Callable, Iterable

import attrs
from agentd.errors import SnapshotError

from agentd_snapshots.content import ContentReader, Poll
from agentd_snapshots.rules import OWN_FOLDER, Rules
from agentd_snapshots.tree import DIGEST, KEPT_BITS, File, FileTree, Folder, join
from agentd_snapshots.walker import ChangedError, Spot, Walker

__all__ = ["Scan", "Scanner", "StatCache"]

FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
SET_ID = stat.S_ISUID | stat.S_ISGID
RACY_NS = 20_000_000  # ext4 steps its timestamps by 4 ms: a write in the same step leaves no trace
COARSE_RACY_NS = 2_100_000_000  # file systems with whole seconds (2 on FAT)
_SECOND_NS = 1_000_000_000
_ATTEMPTS = 3
_SHOWN = 5
_FORMAT = 0o170000
_TIMES = 2**63 - 1  # of what fits a manifest, nanoseconds since or before 1970; some file systems take more
_OURS = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}  # what fails is this process, not the file
_ENCODING, _ERRORS = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()
_KINDS = {
    stat.S_IFSOCK: "socket",
    stat.S_IFIFO: "fifo",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}


class StatCache:
    """Remembers contents by inode: nothing is read again if device, size, mtime and ctime are the same."""

    def __init__(self, tree: FileTree | None = None) -> None:
        self.by_inode: dict[int, File] = {}
        if tree is not None:
            self.learn(tree.files())

    def learn(self, files: Iterable[File]) -> None:
        """Remember the contents of these files."""
        known = self.by_inode
        for file in files:
            if file.ctime_ns and file.known:
                known[file.ino] = file

    def find(self, found: os.stat_result) -> File | None:
        """The file with this status, if its content cannot have changed since."""
        file = self.by_inode.get(found.st_ino)
        if (
            file is not None
            and file.ctime_ns == found.st_ctime_ns
            and file.mtime_ns == found.st_mtime_ns
            and file.size == found.st_size
            and file.dev == found.st_dev
        ):
            return file
        return None


def kept_time(ns: int) -> int:
    """The nearest time that can be kept."""
    return ns if -_TIMES <= ns <= _TIMES else _TIMES if ns > 0 else -_TIMES


@attrs.define
class Scan:
    """What a scan found: the tree, what it leaves out (folder's index, name, reason), and which files it has read.

    `failed` says for each `unreadable` entry what went wrong.
    """

    tree: FileTree
    left_out: list[tuple[int, bytes, str]]
    read: list[File] = attrs.field(factory=list)
    failed: dict[tuple[int, bytes], str] = attrs.field(factory=dict)

    def require_all(self, task: str) -> None:
        """Refuse to go on with less than all.

        :raises SnapshotError: if something could not be read; it is named.
        """
        if not self.failed:
            return
        shown = [
            f"{os.fsdecode(self.tree.path(index, name) or name)!r} ({why})"
            for (index, name), why in list(self.failed.items())[:_SHOWN]
        ]
        more = f" and {len(self.failed) - _SHOWN} more" if len(self.failed) > _SHOWN else ""
        raise SnapshotError(
            f"could not {task}: {', '.join(shown)}{more} cannot be read; change the mode or owner, end what holds it, "
            "or leave it out (the store's option `ignore`)"
        )


@attrs.frozen
class _Pending:
    spot: Spot
    parent: int
    path: bytes | None
    like: int


class Scanner:
    """Reads a tree below an open folder.

    :param stored: says whether the store has a chunk. A file with a chunk that is not there is read again.
    :param like: a tree that the workspace will be compared with. Only files of the same size as theirs are
        read; the others are different in any case.
    """

    def __init__(
        self,
        root_fd: int,
        *,
        rules: Rules,
        reader: ContentReader,
        cache: StatCache,
        stored: Callable[[bytes], bool] | None = None,
        like: FileTree | None = None,
        poll: Poll | None = None,
    ) -> None:
        self._root_fd = root_fd
        self._rules = rules.fitting(root_fd, like)
        self._reader = reader
        self._cache = cache
        self._stored = stored
        self._like = like
        self._poll = poll or (lambda: None)
        self._dev = os.fstat(root_fd).st_dev
        self._folders: list[Folder] = []
        self._scan = Scan(FileTree(self._folders), [])
        self._linked: dict[int, File] = {}
        self._names: list[int] = [0]  # how many names inside the tree each link number has

    def scan(self) -> Scan:
        """Read everything."""
        with Walker(self._root_fd) as walker:
            pending = [_Pending(walker.root, -1, b"", 0 if self._like else -1)]
            while pending:
                self._poll()
                pending += self._folder(walker, pending.pop())
        for file in self._linked.values():
            if self._names[file.link] == 1:
                file.link = 0  # its other names are outside
        return self._scan

    def _folder(self, walker: Walker, at: _Pending) -> list[_Pending]:
        """Read one folder and return its subfolders."""
        try:
            here = walker.goto(at.spot)
            found = os.fstat(here)
            if found.st_dev != self._dev:
                self._leave(at.parent, at.spot.name, "mount point")
                return []
            with os.scandir(here) as entries:
                names = sorted(entries, key=_name)
        except ChangedError:
            return []
        except PermissionError as exc:
            if at.spot.parent is None:
                raise
            self._fail(at.parent, at.spot.name, exc)
            return []
        index = self._begin(at, found)
        likes, like_folders = self._likes(at.like)
        strict = not self._rules.trivial or at.parent < 0 or at.path == OWN_FOLDER
        files, find, has = self._folders[index].files, self._cache.find, self._has
        subfolders = []
        for entry in names:
            name = entry.name.encode(_ENCODING, _ERRORS)
            if strict and self._rules.excludes(at.path, name):
                if not self._rules.is_own(at.path, name):
                    self._leave(index, name, "excluded")
                continue
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            except OSError as exc:  # a folder that may be listed but not entered
                self._fail(index, name, exc)
                continue
            mode = status.st_mode
            if mode & _FORMAT == stat.S_IFDIR:
                like = like_folders.get(name, -1)
                subfolders.append(_Pending(Spot(at.spot, name), index, join(at.path, name), like))
                continue
            # nearly all files of nearly all scans: nothing at all has changed
            known = find(status)
            if (
                known is not None
                and known.name == name
                and known.mode | stat.S_IFREG == mode
                and status.st_nlink == 1
                and known.link == 0
                and known.nlink == 1
                and known.uid == status.st_uid
                and known.gid == status.st_gid
                and has(known)
            ):
                files.append(known)
            else:
                self._entry(index, here, name, status, likes)
        subfolders.reverse()  # so that they are popped in order
        return subfolders

    def _begin(self, at: _Pending, found: os.stat_result) -> int:
        """Take up a folder; return its index."""
        folder = Folder(
            at.parent,
            at.spot.name,
            found.st_mode & KEPT_BITS,
            found.st_uid,
            found.st_gid,
            kept_time(found.st_mtime_ns),
        )
        self._folders.append(folder)
        if found.st_mode & SET_ID:
            self._report(at.parent, at.spot.name, "set-id bits")
        return len(self._folders) - 1

    def _likes(self, like: int) -> tuple[dict[bytes, File], dict[bytes, int]]:
        if self._like is None or like < 0:
            return {}, {}
        return {file.name: file for file in self._like.folders[like].files}, self._like.children[like]

    def _entry(
        self, index: int, here: int, name: bytes, status: os.stat_result, likes: dict[bytes, File]
    ) -> None:
        """Take up what is not a folder."""
        failure = OSError(errno.EBUSY, "it keeps changing")
        try:
            for _ in range(_ATTEMPTS):
                if stat.S_ISREG(status.st_mode):
                    file = self._file(index, here, name, status, likes.get(name))
                elif stat.S_ISLNK(status.st_mode):
                    file = _link(here, name, status)
                else:
                    self._leave(index, name, _KINDS.get(stat.S_IFMT(status.st_mode), "device"))
                    return
                if file is not None:
                    self._folders[index].files.append(file)
                    return
                status = os.stat(name, dir_fd=here, follow_symlinks=False)  # it became something else
                if stat.S_ISDIR(status.st_mode):
                    return
        except FileNotFoundError:
            return
        except OSError as exc:
            if exc.errno in _OURS:
                raise
            failure = exc
        self._fail(index, name, failure)

    def _file(
        self, index: int, here: int, name: bytes, status: os.stat_result, like: File | None
    ) -> File | None:
        """Take up a regular file; None if it is none any more."""
        first = self._linked.get(status.st_ino) if status.st_nlink > 1 else None
        file: File | None
        if first is not None and (first.mtime_ns, first.size) == (
            kept_time(status.st_mtime_ns),
            status.st_size,
        ):
            file = _file_of(name, status, first)
        elif (known := self._cache.find(status)) is not None and self._has(known):
            file = _file_of(name, status, known)
        elif self._like is not None and (
            like is None or like.size != status.st_size or like.target is not None
        ):
            file = _file_of(name, status)
            file.known = False
        else:
            file = self._read(index, here, name)
        if file is None:
            return None
        if status.st_nlink > 1:
            self._link(file)
        if status.st_mode & SET_ID:
            self._report(index, name, "set-id bits")
        return file

    def _has(self, file: File) -> bool:
        """Whether the store has all chunks of a file."""
        stored, digests = self._stored, file.digests
        if stored is None or not digests:
            return True
        if len(digests) == DIGEST:
            return stored(digests)
        return all(stored(digests[at : at + DIGEST]) for at in range(0, len(digests), DIGEST))

    def _link(self, file: File) -> None:
        """Give hard links of one file one number."""
        first = self._linked.setdefault(file.ino, file)
        if first is file:
            file.link = len(self._names)
            self._names.append(1)
        else:
            file.link = first.link
            self._names[first.link] += 1

    def _read(self, index: int, here: int, name: bytes) -> File | None:
        """Read a file's content, again if it is written to meanwhile."""
        file = None
        for _ in range(_ATTEMPTS):
            self._poll()
            begin = time.time_ns()
            fd = os.open(name, FILE, dir_fd=here)
            try:
                before = os.fstat(fd)
                if not stat.S_ISREG(before.st_mode) or before.st_dev != self._dev:
                    return None
                holes = before.st_blocks * 512 < before.st_size
                content = self._reader.read(fd, before.st_size, holes=holes)
                after = os.fstat(fd)
            finally:
                os.close(fd)
            file = _file_of(name, before)
            file.digests, file.runs, file.size = content.digests, content.runs, content.length
            file.sparse = holes
            if content.length == before.st_size and _unchanged(before, after):
                self._scan.read.append(file)
                ctime = kept_time(before.st_ctime_ns)
                margin = RACY_NS if ctime % _SECOND_NS else COARSE_RACY_NS
                file.ctime_ns = ctime if ctime + margin < begin else 0
                return file
        self._report(index, name, "changing")
        return file

    def _fail(self, index: int, name: bytes, exc: OSError) -> None:
        why = "somebody holds a lease on it" if exc.errno == errno.EAGAIN else exc.strerror or str(exc)
        self._scan.failed[index, name] = why
        self._leave(index, name, "unreadable")

    def _leave(self, index: int, name: bytes, reason: str) -> None:
        self._folders[index].left.append((name, reason))
        self._report(index, name, reason)

    def _report(self, index: int, name: bytes, reason: str) -> None:
        self._scan.left_out.append((index, name, reason))


def _name(entry: os.DirEntry[str]) -> str:
    return entry.name


def _unchanged(before: os.stat_result, after: os.stat_result) -> bool:
    return (before.st_ctime_ns, before.st_mtime_ns, before.st_size) == (
        after.st_ctime_ns,
        after.st_mtime_ns,
        after.st_size,
    )


def _link(here: int, name: bytes, status: os.stat_result) -> File | None:
    """A symbolic link; None if it is none any more."""
    try:
        return _file_of(name, status, target=os.readlink(name, dir_fd=here))
    except OSError as exc:
        if exc.errno != errno.EINVAL:
            raise
        return None


def _file_of(
    name: bytes, status: os.stat_result, known: File | None = None, *, target: bytes | None = None
) -> File:
    """A file with this status and the content of another one."""
    file = File(
        name,
        status.st_mode & KEPT_BITS if target is None else 0o777,
        status.st_uid,
        status.st_gid,
        kept_time(status.st_mtime_ns),
        status.st_size,
        target=target,
        dev=status.st_dev,
        ino=status.st_ino,
        nlink=status.st_nlink,
    )
    if known is not None:
        file.digests, file.runs, file.sparse = known.digests, known.runs, known.sparse
        file.known, file.size, file.ctime_ns = known.known, known.size, known.ctime_ns
    return file

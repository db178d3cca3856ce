"""The staging folder of a restore: what shall come into the workspace is made here, what goes is moved here.

It lies in the workspace, because only there a rename is sure to work, and is made with a name that nothing had.
Inside, `nN` are new entries, `oN` old ones, `lN` the first name of hard links.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator

from agentd.errors import CorruptSnapshotError

from agentd_snapshots.content import Poll
from agentd_snapshots.packs import write_all
from agentd_snapshots.tree import CHUNK, KEPT_BITS, File, FileTree, Folder, chunks_of
from agentd_snapshots.walker import DIRECTORY, Spot, Walker

__all__ = ["NEW", "Staging", "settle", "unknown_owner"]

NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PAGE = 4096
_ZEROS = bytes(_PAGE)


class Staging:
    """Makes files and folders of a tree, with their contents from the packs.

    :param read: returns a chunk for its digest.
    """

    def __init__(
        self, root_fd: int, name: bytes, tree: FileTree, *, read: Callable[[bytes], bytes], poll: Poll
    ) -> None:
        self._root_fd = root_fd
        self._name = name
        self._tree = tree
        self._read = read
        self._poll = poll
        self._owners = hasattr(os, "geteuid") and os.geteuid() == 0
        self._anchors: set[int] = set()
        self._count = self._old_count = 0
        self.fd = -1

    def open(self) -> None:
        """Make the folder."""
        os.mkdir(self._name, 0o700, dir_fd=self._root_fd)
        self.fd = os.open(self._name, DIRECTORY, dir_fd=self._root_fd)

    def new(self, item: File | int, name: bytes) -> bytes:
        """Make a file, or the folder with this index and all that is in it; return its name here.

        :raises CorruptSnapshotError: if a content is lost or damaged.
        :raises OSError: if the disk is full, say.
        """
        self._count += 1
        here = b"n%d" % self._count
        if isinstance(item, int):
            self._folder(here, item)
        else:
            self._file(self.fd, here, item)
        return here

    def old_name(self) -> bytes:
        """The next name for something old: the journal knows what becomes `o1`, `o2` and so on."""
        self._old_count += 1
        return b"o%d" % self._old_count

    def close(self) -> None:
        """Close the descriptor."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    # --- folders -------------------------------------------------------------------------------------

    def _folder(self, name: bytes, index: int) -> None:
        """Make a folder with everything below it. Its own mode comes later: a rename may need to write to it."""
        tree = self._tree
        made: list[tuple[Spot, int]] = []
        with Walker(self.fd) as walker:
            pending = [(Spot(walker.root, name), index)]
            while pending:
                spot, at = pending.pop()
                made.append((spot, at))
                assert spot.parent is not None
                os.mkdir(spot.name, 0o700, dir_fd=walker.goto(spot.parent))
                here = walker.goto(spot)
                for file in tree.folders[at].files:
                    self._file(here, file.name, file)
                pending += [(Spot(spot, name), child) for name, child in tree.children[at].items()]
            for spot, at in reversed(made[1:]):
                settle(walker.goto(spot), tree.folders[at], owners=self._owners)

    # --- files ---------------------------------------------------------------------------------------

    def _file(self, fd: int, name: bytes, file: File) -> None:
        if not file.link:
            self._make(fd, name, file)
            return
        anchor = b"l%d" % file.link
        if file.link not in self._anchors:
            self._make(self.fd, anchor, file)
            self._anchors.add(file.link)
        os.link(anchor, name, src_dir_fd=self.fd, dst_dir_fd=fd, follow_symlinks=False)

    def _make(self, fd: int, name: bytes, file: File) -> None:
        self._poll()
        if file.target is not None:
            os.symlink(file.target, name, dir_fd=fd)
            if self._owners:
                with unknown_owner():
                    os.chown(name, file.uid, file.gid, dir_fd=fd, follow_symlinks=False)
            os.utime(name, ns=(file.mtime_ns, file.mtime_ns), dir_fd=fd, follow_symlinks=False)
            return
        made = os.open(name, NEW, 0o600, dir_fd=fd)
        try:
            self._write(made, file)
            settle(made, file, owners=self._owners)
        finally:
            os.close(made)

    def _write(self, fd: int, file: File) -> None:
        if file.size <= CHUNK and file.digests:
            write_all(fd, self._chunk(file, 0, file.digests))
            return
        end = 0
        for number, digest in chunks_of(file):
            self._poll()
            if not file.sparse:
                self._zeros(fd, end, number * CHUNK)
            data = self._chunk(file, number, digest)
            end = number * CHUNK + len(data)
            if file.sparse:
                _write_pages(fd, data, number * CHUNK)
            else:
                os.lseek(fd, number * CHUNK, os.SEEK_SET)
                write_all(fd, data)
        if file.sparse:
            os.ftruncate(fd, file.size)
        else:
            self._zeros(fd, end, file.size)

    def _zeros(self, fd: int, start: int, end: int) -> None:
        """Write zeros where a file had zeros and no hole."""
        os.lseek(fd, start, os.SEEK_SET)
        zeros = bytes(min(CHUNK, end - start))
        while start < end:
            self._poll()
            write_all(fd, zeros[: end - start])
            start += min(len(zeros), end - start)

    def _chunk(self, file: File, number: int, digest: bytes) -> bytes:
        try:
            data = self._read(digest)
            if len(data) != min(CHUNK, file.size - number * CHUNK):
                raise CorruptSnapshotError("a chunk has another length than the file needs")
        except CorruptSnapshotError as exc:
            raise CorruptSnapshotError(
                f"{os.fsdecode(self._path(file))!r} cannot be restored: {exc}"
            ) from exc
        return data

    def _path(self, file: File) -> bytes:
        for index, folder in enumerate(self._tree.folders):
            if any(one is file for one in folder.files):
                return self._tree.path(index, file.name) or file.name
        return file.name


@contextlib.contextmanager
def unknown_owner() -> Iterator[None]:
    """Go on without an owner that this user namespace does not know."""
    try:
        yield
    except OSError as exc:
        if exc.errno not in (errno.EPERM, errno.EINVAL):
            raise


def settle(fd: int, wanted: File | Folder, *, owners: bool) -> None:
    """Give an open file or folder its owner (if that is possible), mode and time."""
    if owners:
        with unknown_owner():
            os.fchown(fd, wanted.uid, wanted.gid)
    if isinstance(wanted, File) or os.fstat(fd).st_mode & KEPT_BITS != wanted.mode:
        os.fchmod(fd, wanted.mode)
    os.utime(fd, ns=(wanted.mtime_ns, wanted.mtime_ns))


def _write_pages(fd: int, data: bytes, offset: int) -> None:
    """Write the pages that are not all zeros."""
    view = memoryview(data)
    start: int | None = None
    for at in range(0, len(data) + _PAGE, _PAGE):
        empty = at >= len(data) or data.startswith(_ZEROS[: len(data) - at], at)
        if empty and start is not None:
            os.lseek(fd, offset + start, os.SEEK_SET)
            write_all(fd, view[start:at])
            start = None
        elif not empty and start is None:
            start = at

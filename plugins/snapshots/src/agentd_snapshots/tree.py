"""A tree of files as a value: what a snapshot describes, and what the stat cache remembers.

Folders stand in a flat list, each with the index of its parent before it: so a tree of any depth is encoded
without recursion and in linear space (full paths of a deep tree would be quadratic).
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

__all__ = ["CHUNK", "DIGEST", "KEPT_BITS", "File", "FileTree", "Folder", "chunks_of", "join"]

CHUNK = 1 << 20
"""Files are hashed, stored and compared in chunks of so many bytes."""
DIGEST = 32
PATH_MAX = 4095
KEPT_BITS = 0o1777
"""Permission bits that are kept: setuid and setgid are not."""


_NO_NAMES = (b"", b".", b"..")


class File(msgspec.Struct, array_like=True, gc=False):
    """A regular file, or a symlink if `target` is set.

    `digests` are the digests of its chunks, one after the other; chunks of zeros are left out. `runs` says
    which chunks they are, as (first, count, first, count, ...); empty: from the first one on. `link` is a
    number that all hard links to one file share, 0 if it has no other name in the tree. `sparse` files had
    less space allocated than they are long. `known` says whether `digests` describes the content: a tree that
    was scanned to be compared leaves out what it need not read.

    `dev`, `ino` and `ctime_ns` are what the stat cache compares. `ctime_ns` is 0 if they prove nothing, because
    the file was read too soon after it was written.
    """

    name: bytes
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size: int
    digests: bytes = b""
    runs: tuple[int, ...] = ()
    target: bytes | None = None
    link: int = 0
    sparse: bool = False
    known: bool = True
    dev: int = 0
    ino: int = 0
    ctime_ns: int = 0
    nlink: int = 1

    def same_content(self, other: File) -> bool:
        """Whether both are known and the same, whatever their names and modes."""
        return (
            self.known
            and other.known
            and self.target == other.target
            and self.size == other.size
            and self.digests == other.digests
            and self.runs == other.runs
        )


class Folder(msgspec.Struct, array_like=True):
    """A folder: `parent` is its index in the tree (-1 for the root), `left` are the (name, reason) of left-out
    entries."""

    parent: int
    name: bytes
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    files: list[File] = []
    left: list[tuple[bytes, str]] = []


class FileTree:
    """Folders, parents before children; the first one is the root."""

    def __init__(self, folders: list[Folder]) -> None:
        self.folders = folders
        self._children: list[dict[bytes, int]] | None = None

    @property
    def children(self) -> list[dict[bytes, int]]:
        """For each folder the indexes of its subfolders by name."""
        if self._children is None or len(self._children) != len(self.folders):
            self._children = [{} for _ in self.folders]
            for index, folder in enumerate(self.folders[1:], 1):
                self._children[folder.parent][folder.name] = index
        return self._children

    def files(self) -> Iterator[File]:
        """All files and symlinks."""
        for folder in self.folders:
            yield from folder.files

    def digests(self) -> Iterator[bytes]:
        """The digests of all chunks of all files, one after the other; some come several times."""
        for file in self.files():
            for at in range(0, len(file.digests), DIGEST):
                yield file.digests[at : at + DIGEST]

    def path(self, index: int, name: bytes = b"") -> bytes | None:
        """The path of a folder, or of `name` in it, relative to the root; None if it is longer than `PATH_MAX`."""
        parts = [name] if name else []
        length = len(name)
        while index > 0:
            folder = self.folders[index]
            parts.append(folder.name)
            length += len(folder.name) + 1
            if length > PATH_MAX:
                return None
            index = folder.parent
        return b"/".join(reversed(parts))

    def belong_to(self, uid: int, gid: int) -> None:
        """Give to this user and group what belonged to the owner of the root folder."""
        root = self.folders[0]
        old_uid, old_gid = root.uid, root.gid
        if old_uid == uid:
            return
        for folder in self.folders:
            entries: list[File | Folder] = [folder, *folder.files]
            for entry in entries:
                if entry.uid == old_uid:
                    entry.uid = uid
                    if entry.gid in (old_uid, old_gid):  # a user's own group mostly has the user's number
                        entry.gid = gid

    def encode(self) -> bytes:
        """As bytes, for `decode`."""
        return msgspec.msgpack.encode(self.folders)

    @classmethod
    def decode(cls, data: bytes) -> FileTree:
        """The tree that `encode` was called on.

        :raises ValueError: if the data is none, or holds a name or an index that leads elsewhere.
        """
        folders = _decoder.decode(data)
        if not folders or folders[0].parent != -1:
            raise ValueError("there is no root folder")
        for index, folder in enumerate(folders):
            if index and not 0 <= folder.parent < index:
                raise ValueError(f"folder {index} has no parent before it")
            names = {file.name for file in folder.files}
            if index:
                names.add(folder.name)
            if not names.isdisjoint(_NO_NAMES) or any(b"/" in name or b"\0" in name for name in names):
                raise ValueError(f"folder {index} holds what is no name of a file")
        return cls(folders)


_decoder = msgspec.msgpack.Decoder(list[Folder])


def chunks_of(file: File) -> Iterator[tuple[int, bytes]]:
    """The (number, digest) of each stored chunk of a file."""
    digests, at = file.digests, 0
    runs = file.runs or (0, len(digests) // DIGEST)
    for first, count in zip(runs[::2], runs[1::2], strict=True):
        for number in range(first, first + count):
            yield number, digests[at : at + DIGEST]
            at += DIGEST


def join(parent: bytes | None, name: bytes) -> bytes | None:
    """The path of `name` below `parent`; None if either is longer than `PATH_MAX`."""
    if parent is None:
        return None
    path = parent + b"/" + name if parent else name
    return path if len(path) <= PATH_MAX else None

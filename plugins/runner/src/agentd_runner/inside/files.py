"""Creating files, and making and removing our own folders: atomically, and inside the workspace only."""

from __future__ import annotations

import errno
import os
import stat
import time

TYPE_CHECKING = False  # `typing` itself would cost every runner its import
if TYPE_CHECKING:
    from collections.abc import Iterator

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class PathRefused(Exception):
    """A path that must not be written; the message says why."""


def _open_beneath(root: int, parts: list[str], make: bool) -> int:
    """Return a descriptor of the directory `parts` below `root`, following symlinks that stay inside.

    Every step opens one name relative to a descriptor without following links, and links are resolved by
    hand against the chain of opened directories, so that no rename or symlink made meanwhile leads out.
    """
    chain = [os.dup(root)]
    todo = list(reversed(parts))
    links = 0
    try:
        while todo:
            name = todo.pop()
            if name in ("", "."):
                continue
            if name == "..":
                if len(chain) == 1:
                    raise PathRefused("the path leaves the workspace")
                os.close(chain.pop())
                continue
            try:
                chain.append(os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=chain[-1]))
            except FileNotFoundError:
                if not make:
                    raise
                try:
                    os.mkdir(name, dir_fd=chain[-1])
                except FileExistsError:
                    pass
                todo.append(name)
            except OSError as error:
                if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                    raise
                try:
                    target = os.readlink(name, dir_fd=chain[-1])
                except OSError:
                    raise PathRefused(f"{name!r} is no directory") from None
                links += 1
                if links > 40:
                    raise PathRefused("too many symbolic links") from None
                if target.startswith("/"):
                    raise PathRefused(f"the symbolic link {name!r} leaves the workspace") from None
                todo += reversed(target.split("/"))
        return os.dup(chain[-1])
    finally:
        for descriptor in chain:
            os.close(descriptor)


def make_folder(workspace: str, folder: str) -> None:
    """Make a folder of our own, and those that it is in. Raises `OSError` for a link in its way."""
    if not folder.startswith(f"{workspace}/"):  # the host's, not in reach of code
        os.makedirs(folder, mode=0o700, exist_ok=True)
        return
    head, name = os.path.split(folder)
    directory = _open_without_links(workspace, head, make=True)
    try:
        os.mkdir(name, 0o700, dir_fd=directory)
    except FileExistsError:
        pass
    finally:
        os.close(directory)


def remove_folder(workspace: str, folder: str) -> None:
    """Remove a folder of our own. Raises `OSError` if it is not empty, or if there is a link in its way."""
    if not folder.startswith(f"{workspace}/"):
        os.rmdir(folder)
        return
    head, name = os.path.split(folder)
    directory = _open_without_links(workspace, head, make=False)
    try:
        os.rmdir(name, dir_fd=directory)
    finally:
        os.close(directory)


def remove_tree(folder: str | os.PathLike[str]) -> None:
    """Remove a folder with all that is in it, as far as that goes: also from folders that nobody may write.

    Not to be called while code runs that could put links in the way.
    """
    import shutil  # here: few sessions leave anything

    shutil.rmtree(folder, ignore_errors=True)
    for path in _folders_of(folder):  # what is left: caches of downloads, say, are often read-only
        try:
            os.chmod(path, 0o700)
        except OSError:
            pass
    shutil.rmtree(folder, ignore_errors=True)


def _folders_of(folder: str | os.PathLike[str]) -> Iterator[str | os.PathLike[str]]:
    """Yield a folder and those in it, parents first; links are none."""
    if os.path.isdir(folder) and not os.path.islink(folder):
        yield folder
        for here, names, _ in os.walk(folder):
            yield from (path for name in names if not os.path.islink(path := os.path.join(here, name)))


def write_file(workspace: str, folder: str, name: str, content: bytes | None) -> None:
    """Write a file into a folder of our own, or remove it (None). Raises `OSError`."""
    inside = folder.startswith(f"{workspace}/")
    directory = _open_without_links(workspace, folder, make=False) if inside else os.open(folder, _FOLDER)
    try:
        if content is None:
            os.unlink(name, dir_fd=directory)
        else:
            _replace(directory, name, content)
    finally:
        os.close(directory)


def _open_without_links(workspace: str, folder: str, make: bool) -> int:
    here = os.open(workspace, _FOLDER)
    for name in folder[len(workspace) + 1 :].split("/") if folder != workspace else ():
        try:
            if make:
                try:
                    os.mkdir(name, dir_fd=here)
                except FileExistsError:
                    pass
            deeper = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=here)
        finally:
            os.close(here)
        here = deeper
    return here


def _check_target(name: str, directory: int) -> int | None:
    """Return the mode of the regular file `name`, or None if there is none; refuse all else."""
    try:
        there = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if stat.S_ISREG(there.st_mode):
        return stat.S_IMODE(there.st_mode)
    if stat.S_ISLNK(there.st_mode):
        raise PathRefused("it is a symbolic link; remove it first, or write to its target")
    kinds = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
    raise PathRefused(f"it is {kinds.get(stat.S_IFMT(there.st_mode), 'a device')}, not a file")


def create_file(workspace: str, cwd: str, path: str, content: bytes) -> str:
    """Write `content` to `path` (relative to `cwd`) atomically, inside `workspace` only.

    Returns the path relative to the workspace. Raises `PathRefused` or `OSError`; what was there before
    is then unchanged.
    """
    if not path or path.endswith("/") or "\0" in path:
        raise PathRefused("it names no file")
    if path.startswith("/"):
        raise PathRefused("it is absolute; give a path relative to the workspace")
    parts = path.split("/")
    if ".." in parts:
        raise PathRefused("it contains '..'")
    base = os.path.relpath(os.path.realpath(cwd), os.path.realpath(workspace))
    if base == ".." or base.startswith("../"):
        raise PathRefused(f"the current directory {cwd} is outside the workspace; cd back into {workspace}")
    below = [part for part in base.split("/") if part != "."]
    root = os.open(workspace, _FOLDER)
    try:
        directory = _open_beneath(root, below + parts[:-1], make=True)
    finally:
        os.close(root)
    try:
        _replace(directory, parts[-1], content)
    finally:
        os.close(directory)
    return "/".join([*below, *parts])


def _replace(directory: int, name: str, content: bytes) -> None:
    if name in (".", ""):
        raise PathRefused("it names no file")
    mode = _check_target(name, directory)
    temporary = f".{name[:200]}.{os.getpid():x}{time.monotonic_ns():x}"[:255]
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o666, dir_fd=directory)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        if mode is None:
            mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
        if content.startswith(b"#!"):
            mode |= (mode & 0o444) >> 2  # executable by whoever may read it
        os.fchmod(descriptor, mode)
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        os.unlink(temporary, dir_fd=directory)
        raise
    finally:
        os.close(descriptor)

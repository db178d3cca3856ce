"""What lies in a workspace, listed from outside: code may have put links there, and none is followed."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath

from agentd.errors import ToolInputError, WorkspaceError

__all__ = ["check_workspace", "list_files"]

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def check_workspace(workspace: Path) -> None:
    """Raise `WorkspaceError` if there is none any more."""
    os.close(_opened(workspace))


def _opened(workspace: Path) -> int:
    try:
        return os.open(workspace, _FOLDER & ~os.O_NOFOLLOW)
    except OSError as error:
        raise WorkspaceError(
            f"the workspace {str(workspace)!r} cannot be opened: {error.strerror}; put it back, or go back to a "
            "checkpoint, which makes it anew"
        ) from None


def list_files(
    workspace: Path, path: str, *, depth: int, most: int, without: Collection[str] = ()
) -> list[str]:
    """Return a line for each file and folder, at most `most` and one that says so.

    :param without: paths in the workspace that are not listed.
    :raises ToolInputError: if `path` is no folder within the workspace.
    :raises WorkspaceError: if there is no workspace any more.
    """
    folder = _opened(workspace)
    try:
        for part in PurePosixPath(path).parts:
            if part in ("/", ".."):
                raise ToolInputError(
                    f"list_files: path must be a folder within the workspace, got {path!r:.200}"
                )
            try:
                inner = os.open(part, _FOLDER, dir_fd=folder)
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or error
                raise ToolInputError(
                    f"list_files: {path!r:.200} is no folder of the workspace: {reason}"
                ) from None
            os.close(folder)
            folder = inner
        lines: list[str] = []
        above = "".join(f"{part}/" for part in PurePosixPath(path).parts)
        for line in _lines(
            folder,
            "",
            depth,
            frozenset(name.removeprefix(above) for name in without if name.startswith(above)),
        ):
            if len(lines) == most:
                return [*lines, "[there is more; name a folder, or a smaller depth]"]
            lines.append(line)
        return lines
    finally:
        os.close(folder)


def _lines(folder: int, before: str, depth: int, without: Collection[str]) -> Iterator[str]:
    for name in sorted(os.listdir(folder)):
        if f"{before}{name}" in without:
            continue
        shown = f"{before}{name}".encode("utf-8", "replace").decode()
        try:
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except OSError:  # gone meanwhile
            continue
        if stat.S_ISLNK(found.st_mode):
            yield f"{shown}  a link"
        elif not stat.S_ISDIR(found.st_mode):
            yield f"{shown}  {found.st_size:,} bytes"
        else:
            yield f"{shown}/"
            if depth > 1:
                yield from _inside(folder, name, f"{before}{name}/", depth - 1, without)


def _inside(folder: int, name: str, before: str, depth: int, without: Collection[str]) -> Iterator[str]:
    try:
        inner = os.open(name, _FOLDER, dir_fd=folder)
    except OSError:
        return
    try:
        yield from _lines(inner, before, depth, without)
    finally:
        os.close(inner)

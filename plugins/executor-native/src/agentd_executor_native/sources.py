"""What of the host is mounted, held open: between a look at a path and its mount, nothing can be put in its place.

Code of another session may work in the same folders and swap a folder for a link to somebody's keys.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import attrs
from agentd.errors import SandboxUnavailableError

from agentd_executor_native.view import View, covered_by

__all__ = ["MountSource", "opened"]

MOST: Final = 2_900  # each takes three of the 9,000 arguments that bubblewrap can have


@attrs.frozen
class MountSource:
    """A file or folder of the host, with a descriptor (`O_PATH`) of it."""

    path: Path
    writable: bool
    descriptor: int

    @property
    def argument(self) -> list[str]:
        """bubblewrap's arguments for it."""
        option = "--bind-fd" if self.writable else "--ro-bind-fd"
        return [option, str(self.descriptor), str(self.path)]


@contextmanager
def opened(view: View) -> Iterator[Sequence[MountSource]]:
    """Open what a view mounts, for the time of a start.

    What is guarded and is a link, or lies behind one, is left out; nothing is guarded by showing what it leads to.

    :raises SandboxUnavailableError: if the way to a writable folder leads somewhere else by now, or if they are more
        than may be open.
    """
    found: list[MountSource] = []
    try:
        for path, writable in view.mounts:
            descriptor = _open(path, len(view.mounts))
            found.append(MountSource(path, writable, descriptor))
            real = os.readlink(f"/proc/self/fd/{descriptor}")
            if real == str(path):
                continue
            if path in view.write:
                raise SandboxUnavailableError(
                    f"the sandbox native cannot run here: the way to {path} leads to {real} now; start anew"
                )
            if covered_by(path, view.write):
                os.close(found.pop().descriptor)
        yield found
    finally:
        for source in found:
            os.close(source.descriptor)


def _open(path: Path, count: int) -> int:
    """Open one of so many."""
    try:
        if count <= MOST:
            return os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        if error.errno != errno.EMFILE:
            raise
        remedy = "than this program may have open: raise ulimit -n, or take a folder with fewer repositories"
    else:
        remedy = "than bubblewrap can show: take a folder with fewer repositories"
    raise SandboxUnavailableError(
        f"the sandbox native cannot run here: it shows {count} files and folders, most of them guarded settings of "
        f"git repositories in the workspace, which is more {remedy}"
    )

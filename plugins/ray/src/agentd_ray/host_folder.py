"""The folder of a host on its node: workspaces and caches. It goes with the host, or with one that comes later."""

from __future__ import annotations

import fcntl
import os
import re
import stat
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from agentd_runner.inside.files import remove_tree

__all__ = ["HostFolder"]

_MADE_S: Final = 60
"""A folder that is younger may not be held yet."""
_NAME: Final = re.compile(r"agentd-fleet-[^-]+-[^-]+-[^-]+")


class HostFolder:
    """A folder that is held by a lock as long as the host lives, so that others know it for abandoned afterwards.

    :param base: where folders of hosts lie; None for the machine's folder for temporary files.
    :param fleet, node: ids; `name` is the host's own among all of the fleet.
    """

    def __init__(self, base: str | None, *, fleet: str, node: str, name: str) -> None:
        self._base = Path(base or tempfile.gettempdir())
        self._start = f"agentd-fleet-{fleet}-{node[:16]}-"
        self.path = self._base / f"{self._start}{name}"
        self._held: int | None = None

    def make(self) -> None:
        """Make it, and hold it."""
        self.path.mkdir(mode=0o700, parents=True)
        self._held = _hold(self.path)

    def clear(self, names: Iterable[str]) -> None:
        """Remove what lost hosts of this fleet have left on this node, and what those of any have left that nobody
        holds any more: a fleet may end as a whole, with nobody left to put it away."""
        for name in names:
            remove_tree(self._base / f"{self._start}{name}")
        try:
            found = [Path(entry.path) for entry in os.scandir(self._base) if _NAME.fullmatch(entry.name)]
        except OSError:
            return
        for path in found:
            if path != self.path and _is_old_and_ours(path) and (held := _hold(path)) is not None:
                remove_tree(path)
                os.close(held)

    def remove(self) -> None:
        """Remove it."""
        remove_tree(self.path)
        if self._held is not None:
            os.close(self._held)
            self._held = None


def _hold(path: Path) -> int | None:
    """Lock a folder for as long as this process lives; None if another one does, or if its file system cannot."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _is_old_and_ours(path: Path) -> bool:
    try:
        about = path.lstat()
    except OSError:
        return False
    is_ours = stat.S_ISDIR(about.st_mode) and about.st_uid == os.getuid()
    return is_ours and time.time() - about.st_ctime > _MADE_S

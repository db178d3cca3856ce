"""What the long-living processes and the folders of a run take, read from /proc and the disk."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from fnmatch import fnmatch
from pathlib import Path

from endurance.trend import Bound

__all__ = ["BOUNDS", "Processes", "disk_of", "look_at", "started"]

BOUNDS: Mapping[str, Bound] = {
    "rss_mib": Bound(8, 8, 120),
    "pss_mib": Bound(8, 8, 120),
    "fds": Bound(4, 6),
    "threads": Bound(2, 4),
    "watches": Bound(2, 3),
    "processes": Bound(2, 5, 120),
    "mib": Bound(30, 24),
    "files": Bound(200, 150),
}
"""What is flat, by figure: growth an hour, and growth in all that is no growth."""


def look_at(pid: int) -> dict[str, float]:
    """Return what a process takes by itself. Raises `OSError` if it is gone."""
    home = Path(f"/proc/{pid}")
    rollup = dict(_kib(home / "smaps_rollup"))
    fds = list((home / "fd").iterdir())
    return {
        "rss_mib": rollup.get("Rss", 0) / 1024,
        "pss_mib": rollup.get("Pss", 0) / 1024,
        "fds": len(fds),
        "threads": len(list((home / "task").iterdir())),
        "watches": sum(map(_watches, (home / "fdinfo").iterdir())),
    }


def _kib(path: Path) -> Iterable[tuple[str, int]]:
    for line in path.read_text().splitlines():
        name, _, rest = line.partition(":")
        if rest.endswith(" kB"):
            yield name, int(rest.split()[0])


def _watches(path: Path) -> int:
    try:
        return path.read_text().count("inotify wd:")
    except OSError:  # closed meanwhile
        return 0


def disk_of(folder: Path, without: str = "") -> dict[str, float]:
    """Return how many files and MiB lie below a folder; what goes meanwhile does not count.

    :param without: a path as `fnmatch` has it; what lies below such folders counts as MiB alone.
    """
    files, size = 0, 0
    for place, _, names in os.walk(folder):
        counted = not (without and fnmatch(place, f"{folder}/{without}/*"))
        for name in names:
            try:
                size += os.lstat(os.path.join(place, name)).st_blocks * 512
            except OSError:
                continue
            files += counted
    return {"mib": size / 1024 / 1024, "files": files}


def started(pid: int) -> str:
    """Return when a living process began, in ticks; empty if there is none, so that no pid is taken for another."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in (b"Z", b"X") else fields[19].decode()


class Processes:
    """The table of processes at one moment."""

    def __init__(self) -> None:
        self.parents: dict[int, int] = {}
        self.dead: set[int] = set()
        self._children: dict[int, list[int]] = {}
        for entry in os.scandir("/proc"):
            if entry.name.isdigit():
                try:
                    fields = Path(entry.path, "stat").read_bytes().rpartition(b")")[2].split()
                except OSError:
                    continue
                pid, parent = int(entry.name), int(fields[1])
                self.parents[pid] = parent
                self._children.setdefault(parent, []).append(pid)
                if fields[0] in (b"Z", b"X"):
                    self.dead.add(pid)

    def children(self, pid: int) -> list[int]:
        """The living children of a process."""
        return [child for child in self._children.get(pid, []) if child not in self.dead]

    def below(self, pid: int) -> list[int]:
        """All living processes below one."""
        found = self.children(pid)
        return [*found, *(deeper for child in found for deeper in self.below(child))]

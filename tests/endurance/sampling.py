"""Samples: what each long-living process and folder takes now, and processes that have outlived what started them."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from endurance.measuring import Processes, disk_of, look_at, started
from endurance.report import HARNESS
from endurance.world import Place

__all__ = ["Sampler"]

DISK_EVERY_S = 5.0
OUTLIVED_S = 150.0
"""Longer than any command that a work here starts."""
LEFT_S = 20.0
FOLDERS = {"state": "daemon*/snapshots", "cache": "", "tmp": "", "home": "", "work": ""}
"""With what of each counts as MiB alone: a daemon keeps 1,000 checkpoints of an agent, which take 16 hours to come."""


class Sampler:
    """Looks from outside.

    Orphans become children of this process: it is their sub-reaper. One that lives on for minutes has outlived what
    started it. A dead one is waited for when it was seen dead twice, so that its owner here comes first.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._orphans: dict[str, float] = {}
        self._dead: set[int] = set()
        self._disk_at = 0.0

    def look(self, spent: float) -> list[tuple[float, str, str, dict[str, float]]]:
        """Return the samples of now."""
        found = []
        table = Processes()
        for name, program in list(self._place.programs.items()):
            life, pid = program.life, program.pid
            try:
                figures = look_at(pid) if life else {}
            except OSError:  # killed meanwhile
                continue
            if figures:
                found.append((spent, name, life, {**figures, "processes": float(len(table.below(pid)))}))
        me = os.getpid()
        found.append((spent, HARNESS, f"{me}@{started(me)}", look_at(me)))
        if time.monotonic() - self._disk_at > DISK_EVERY_S:
            self._disk_at = time.monotonic()
            folder = self._place.world.folder
            found += [
                (spent, f"folder {name}", "", disk_of(folder / name, kept)) for name, kept in FOLDERS.items()
            ]
        self._watch_orphans(table)
        return found

    def _watch_orphans(self, table: Processes) -> None:
        now = time.monotonic()
        children = {f"{pid}@{started(pid)}": pid for pid in table.children(os.getpid())}
        self._orphans = {life: self._orphans.get(life, now) for life in children}
        known = {program.life for program in self._place.programs.values()}
        for life, since in self._orphans.items():
            if now - since > OUTLIVED_S and life not in known:
                self._orphans[life] = float("inf")  # told once
                self._place.tally.add(outlived=1)
                self._place.tally.wrong(f"outlived what started it: {_command(children[life])}")
        self._reap(table)

    def _reap(self, table: Processes) -> None:
        dead = {pid for pid in table.dead if table.parents[pid] == os.getpid()}
        for pid in dead & self._dead:
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:  # its owner was quicker
                pass
        self._dead = dead

    def left_at_the_end(self) -> list[str]:
        """Return what still lives below this process when everything was ended, and end that."""
        end = time.monotonic() + LEFT_S
        while (left := Processes().below(os.getpid())) and time.monotonic() < end:
            time.sleep(0.1)
            self._reap(Processes())
        commands = [_command(pid) for pid in left]
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        return commands


def _command(pid: int) -> str:
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        return f"{pid} (gone)"
    return f"{pid} {line[:300]}"

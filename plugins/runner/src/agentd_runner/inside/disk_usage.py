"""What code adds to the workspace and its temporary files: a walk in slices, and the rules of the limits."""

from __future__ import annotations

import os
import stat
import sys
import time

TYPE_CHECKING = False  # `typing` itself would cost every runner its import
if TYPE_CHECKING:
    from collections.abc import Iterator


WATCH_S = 0.25  # how often limits that only a look can tell are looked at, and how old an action is by then
IDLE_WATCH_S = 5.0  # the same while only a kept interpreter lives
WALK_PAUSE_S = 1.0  # between two walks through the workspace, if nothing hurries
SLICE_S = 0.002  # how long a walk may hold up the loop at a time
CALM_SHARE, HURRIED_SHARE = 0.02, 0.5  # of the time that may go into walks
SLICE_PAUSE_S = 0.5  # at most, between two slices: one in which others had the processor says little
TICK_NS = 10_000_000  # by how much the time that the kernel gives a file may be too early, at most
HELD_LEVELS = 256  # of a walk: folders kept open on the way down
TIDY_UP = "Delete files first: blocks still run, but one that adds more is ended again"
SPARE_BYTES, SPARE_INODES = 16 << 20, 2000  # how much more may come to be where a limit is exceeded already


class DiskUse:
    """Bytes on the disk and inodes."""

    def __init__(self, size: int, inodes: int) -> None:
        self.bytes = size
        self.inodes = inodes

    def add(self, size: int) -> None:
        """Count one more inode, of so many bytes."""
        self.bytes += size
        self.inodes += 1

    def minus(self, other: DiskUse) -> DiskUse:
        return DiskUse(self.bytes - other.bytes, self.inodes - other.inodes)


class DiskWalk:
    """Adds up what lies below some folders, a slice at a time: what is on the disk (holes are not), hard links
    once, symlinks not followed, other file systems left out. What changes meanwhile is counted or not.

    `roots` has for each folder two times of its file system, in ns: `young` is what has changed since the first,
    `fresh` what has since the second.
    """

    def __init__(self, roots: dict[str, tuple[int, int]]) -> None:
        self.use = DiskUse(0, 0)
        self.young: dict[int, DiskUse] = {}  # by the device of the folder
        self.young_here = DiskUse(0, 0)
        self.fresh = DiskUse(0, 0)
        self.linked: set[tuple[int, int]] = set()
        self.steps = self.walk(roots)

    def advance(self, seconds: float) -> bool:
        """Go on for a while; True when everything has been counted."""
        until = time.perf_counter() + seconds
        return all(time.perf_counter() < until for _ in self.steps)

    def walk(self, roots: dict[str, tuple[int, int]]) -> Iterator[None]:
        for root, since_ns in roots.items():
            top = _open_folder(root, None)
            if top >= 0:
                yield from self.tree(top, since_ns)

    def tree(self, here: int, since_ns: tuple[int, int]) -> Iterator[None]:
        """Count depth first, by descriptors: no rename leads elsewhere, and no path is too long."""
        device = os.fstat(here).st_dev
        self.young_here = self.young.setdefault(device, DiskUse(0, 0))
        above: list[tuple[int, int, list[str]]] = []  # descriptor or -1, inode, folders to visit
        try:
            names: list[str] = []
            yield from self.folder(here, device, since_ns, names)
            while True:
                if names:
                    below = _open_folder(names.pop(), here)
                    if below >= 0:
                        above.append((here, os.fstat(here).st_ino, names))
                        if len(above) > HELD_LEVELS:
                            os.close(here)
                            above[-1] = (-1, *above[-1][1:])
                        here, names = below, []
                        yield from self.folder(here, device, since_ns, names)
                elif above:
                    parent, inode, names = above.pop()
                    if parent < 0:
                        parent = _open_folder("..", here)
                        if parent < 0 or os.fstat(parent).st_ino != inode:
                            names = []  # it was moved: what is left there is not counted
                    if parent >= 0:
                        os.close(here)
                        here = parent
                else:
                    return
        finally:
            for descriptor in (here, *(held for held, _, _ in above if held >= 0)):
                os.close(descriptor)

    def folder(self, here: int, device: int, since_ns: tuple[int, int], folders: list[str]) -> Iterator[None]:
        """Count the entries of one folder; note its folders."""
        try:
            with os.scandir(here) as entries:
                for entry in entries:
                    try:
                        there = entry.stat(follow_symlinks=False)
                    except OSError:  # it has gone
                        continue
                    if stat.S_ISDIR(there.st_mode):
                        if there.st_dev == device:
                            folders.append(entry.name)
                            self.add(there, since_ns)
                    elif there.st_nlink < 2:
                        self.add(there, since_ns)
                    elif (there.st_dev, there.st_ino) not in self.linked:
                        self.linked.add((there.st_dev, there.st_ino))
                        self.add(there, since_ns)
                    yield
        except OSError:  # it was closed to us, or its disk fails
            pass

    def add(self, there: os.stat_result, since_ns: tuple[int, int]) -> None:
        size = there.st_blocks * 512
        self.use.add(size)
        if there.st_ctime_ns >= since_ns[0]:
            self.young_here.add(size)
        if there.st_ctime_ns >= since_ns[1]:
            self.fresh.add(size)


def _open_folder(name: str, above: int | None) -> int:
    try:
        return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
    except OSError:
        return -1


def _time_of(folder: str) -> int:
    """Return the time by the clock of a folder's file system, in ns; 0 if it does not tell.

    It may be another computer's; and the kernel's own for files is up to a tick behind `time.time`.
    """
    try:
        probe = os.open(folder, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except (OSError, AttributeError):  # not on macOS, nor on every file system
        return 0
    try:
        return os.fstat(probe).st_ctime_ns
    finally:
        os.close(probe)


class DiskMeter:
    """Watches what code adds to the workspace and to its folder for temporary files.

    Walking through them is the only way to know, and it may be long: so it is done in slices and within a
    share of the time. How much the file systems have grown as a whole, which they tell at once, says when to
    hurry. A limit is exceeded when two walks say so: a file that is moved meanwhile may be counted twice.
    """

    def __init__(self, roots: list[str], limits: dict[str, int]) -> None:
        most = [limits.get(name, sys.maxsize) for name in ("workspace_bytes", "workspace_inodes")]
        self.most = DiskUse(*most)
        # With the time of the first action by the clock of each.
        self.roots = dict.fromkeys(roots if min(most) < sys.maxsize else (), 0)
        self.walk: DiskWalk | None = None
        self.next_walk = 0.0
        self.changed = False  # an action has run since the last walk began
        # The use of each disk: before the first action, when this walk began and when the last complete one did,
        # and the most that was seen before and during the first walk.
        self.before: dict[int, DiskUse] | None = None
        self.at_start: dict[int, DiskUse] = {}
        self.then: dict[int, DiskUse] = {}
        self.peak: dict[int, DiskUse] = {}
        self.clocks: dict[
            str, int
        ] = {}  # by how much the clock of each file system is ahead of ours at most, ns
        self.rested_ns = self.walk_rested_ns = 0  # when last nothing ran, by our clock; the same for the walk
        self.fresh = DiskUse(0, 0)  # what has changed since then
        self.base: DiskUse | None = None  # the use of the folders before the first action
        self.grown = DiskUse(0, 0)  # since then
        self.free = self.reserve = sys.maxsize  # of the workspace's disk, bytes
        self.suspected = False
        self.settling = self.settles = False  # something was ended; this walk shows what that has left
        self.tolerated = DiskUse(0, 0)
        self.excess = ""  # which limit is exceeded, in words

    def action_begins(self, first: bool = True) -> None:
        """Note what the disks hold before the first action, and before the `first` that runs after a rest."""
        self.changed = True
        if first:
            self.rested_ns = time.time_ns()
            if self.before is None:
                self.before = self.then = self.disks()
                self.roots = {root: _time_of(root) for root in self.roots}
                # At most: what the action before has written is never taken for the next one's. What that one
                # writes within a tick is not seen as its own, unless it goes on.
                self.clocks = {root: at and at + TICK_NS - time.time_ns() for root, at in self.roots.items()}

    def is_of_others(self) -> bool:
        """Return whether what lay there before what runs began exceeds a limit, and that has hardly added to it."""
        fresh = self.fresh
        if fresh.bytes > min(SPARE_BYTES, self.reserve // 4) or fresh.inodes > SPARE_INODES:
            return False
        return bool(self.explain(self.grown.minus(fresh), self.free + fresh.bytes))

    def disks(self) -> dict[int, DiskUse]:
        """Return how much of each disk that the folders are on is used, by whomever."""
        uses: dict[int, DiskUse] = {}
        for root in self.roots:
            try:
                device, disk = os.stat(root).st_dev, os.statvfs(root)
            except OSError:
                continue
            size = disk.f_blocks * disk.f_frsize
            if not uses and disk.f_blocks:
                self.free = disk.f_bavail * disk.f_frsize
                self.reserve = min(1 << 30, size // 20)
            uses[device] = DiskUse(size - disk.f_bfree * disk.f_frsize, disk.f_files - disk.f_ffree)
        return uses

    def look(self, running: bool, fair: bool) -> tuple[float, bool]:
        """Go one step on. Return in how many seconds to look again, and whether to end what runs.

        `fair` says that nothing is being ended: what grows now is not what an ended action still writes.
        """
        started = time.monotonic()
        if self.walk is None and not (running or self.changed or self.suspected):
            return float("inf"), False
        now = self.disks()
        hurried = self.hurried(now)
        if self.walk is None:
            if started < self.next_walk and not hurried:
                return min(WATCH_S, self.next_walk - started), False
            self.walk_rested_ns = self.rested_ns
            times = {
                root: (since, self.rested_ns + self.clocks.get(root, 0)) for root, since in self.roots.items()
            }
            self.walk, self.at_start = DiskWalk(times), now
            self.changed, self.settles = running, self.settling and fair
        done = self.walk.advance(SLICE_S)
        if self.base is None:
            self.note_peak(now)
            self.note_peak(self.disks())
        took_s = time.monotonic() - started
        pause_s = min(took_s / (HURRIED_SHARE if hurried else CALM_SHARE), SLICE_PAUSE_S)
        if not done:
            return pause_s, False
        use, mine, self.then = self.walk.use, self.added(self.walk.young), self.at_start
        # What has begun during the walk cannot have added much.
        self.fresh = self.walk.fresh if self.walk_rested_ns == self.rested_ns else DiskUse(0, 0)
        self.walk = None
        self.next_walk = started + max(WALK_PAUSE_S, pause_s)
        end = self.judge(use, mine)
        return (pause_s if self.suspected else max(WATCH_S, pause_s)), end

    def note_peak(self, now: dict[int, DiskUse]) -> None:
        for device, use in now.items():
            most = self.peak.get(device, use)
            self.peak[device] = DiskUse(max(use.bytes, most.bytes), max(use.inodes, most.inodes))

    def added(self, young: dict[int, DiskUse]) -> DiskUse:
        """Return what the code has added before the first walk: what has changed, up to what its disk has grown by."""
        before, mine = self.before or self.peak, DiskUse(0, 0)
        for device, changed in young.items():
            peak = self.peak.get(device, mine)
            since = peak.minus(before.get(device, peak))
            mine.bytes += min(changed.bytes, max(since.bytes, 0))
            mine.inodes += min(changed.inodes, max(since.inodes, 0))
        return mine

    def hurried(self, now: dict[int, DiskUse]) -> bool:
        """True if, by the growth of a disk since the last walk, a limit may be near."""
        room = min(self.most.bytes - self.grown.bytes, max(self.free - self.reserve, 0))
        left = self.most.inodes - self.grown.inodes
        most = DiskUse(max(room // 4, SPARE_BYTES), max(left // 4, SPARE_INODES))
        since = [use.minus(self.then.get(device, use)) for device, use in now.items()]
        return self.suspected or any(use.bytes > most.bytes or use.inodes > most.inodes for use in since)

    def judge(self, use: DiskUse, mine: DiskUse) -> bool:
        """Compare what a walk has found with the limits; True if what runs must be ended.

        `mine` is what the code has added before the first walk.
        """
        if self.base is None:
            self.base = use.minus(mine)
        grown = self.grown = use.minus(self.base)
        self.excess = self.explain(grown, self.free)
        spare = DiskUse(grown.bytes + SPARE_BYTES, grown.inodes + SPARE_INODES)
        suspected, self.suspected = self.suspected, False
        if not self.excess:
            self.tolerated = DiskUse(0, 0)
            self.settling = False
        elif self.settling:
            if self.settles:
                self.tolerated, self.settling = spare, False
        elif grown.bytes > self.tolerated.bytes or grown.inodes > self.tolerated.inodes:
            self.settling, self.suspected = suspected, not suspected
            return suspected
        else:  # code is tidying up: what it has given back stays given back
            self.tolerated = DiskUse(
                min(spare.bytes, self.tolerated.bytes), min(spare.inodes, self.tolerated.inodes)
            )
        return False

    def explain(self, grown: DiskUse, free: int) -> str:
        size = f"the session has added {grown.bytes >> 20} MiB to the workspace and its temporary files"
        if grown.bytes > self.most.bytes:
            return f"{size}; the limit workspace_mib is {self.most.bytes >> 20}"
        if grown.inodes > self.most.inodes:
            return (
                f"the session has added {grown.inodes} files and folders to the workspace; "
                f"the limit workspace_inodes is {self.most.inodes}"
            )
        if self.roots and free < self.reserve < grown.bytes:
            return f"{size}, and the disk has only {free >> 20} MiB left"
        return ""

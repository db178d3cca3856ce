"""What snapshots look like from outside: frozen values."""

from __future__ import annotations

from pathlib import Path

import attrs
from agentd.selectors import Selector

__all__ = ["Diff", "LeftOut", "Selector", "Snapshot", "SnapshotStats"]


@attrs.frozen
class LeftOut:
    """Something in the workspace that a snapshot does not keep, or keeps only in part.

    `path` is relative to the workspace, as `os.fsdecode` gives it. `reason` is `socket`, `fifo`, `device`,
    `mount point` or `excluded` for what is not kept at all (`unreadable` in snapshots of earlier versions);
    `set-id bits` for a file or folder that is kept without its setuid and setgid bits; `changing` for a file that
    was written to each time it was read, and whose kept content may be a mix of two states.
    """

    path: str
    reason: str


@attrs.frozen(kw_only=True)
class SnapshotStats:
    """What a snapshot holds and what it cost.

    `bytes` is the size of all files together (holes of sparse files included), `new_bytes` what the snapshot
    added to the store, `read_files` how many files were read because the stat cache could not answer for them.
    `left_out` has at most the first 100 of `left_out_count` entries.
    """

    files: int = 0
    folders: int = 0
    symlinks: int = 0
    bytes: int = 0
    new_bytes: int = 0
    read_files: int = 0
    left_out: tuple[LeftOut, ...] = ()
    left_out_count: int = 0
    seconds: float = 0.0


@attrs.frozen
class Snapshot:
    """One kept state of a workspace.

    `id` is `turn_0003`, or `turn_0003_2` if the turn has several. `timestamp` is in seconds since the epoch, by a clock
    that may have been set; `sequence` counts the snapshots of a workspace and says which one is newer.
    `path` is the file that describes the snapshot; its contents are in the packs beside it.
    """

    id: str
    label: str | None
    turn: int
    path: Path
    timestamp: float
    stats: SnapshotStats = attrs.field(factory=SnapshotStats, repr=False)
    sequence: int = attrs.field(default=0, repr=False)


@attrs.frozen(kw_only=True)
class Diff:
    """What is different in `b` compared with `a`: sorted paths relative to the workspace.

    `added` and `removed` include everything below an added or removed folder. `changed` are files with other
    content and symlinks with another target; `mode_changed` differ in their permission bits alone;
    `type_changed` are another kind of thing (a file where a folder was). Times are not compared. Paths that
    are longer than any system call takes (4,095 bytes) are counted in `too_deep` instead of listed.
    """

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    mode_changed: tuple[str, ...] = ()
    type_changed: tuple[str, ...] = ()
    too_deep: int = 0

    def __bool__(self) -> bool:
        """Whether anything differs."""
        return bool(
            self.added
            or self.removed
            or self.changed
            or self.mode_changed
            or self.type_changed
            or self.too_deep
        )

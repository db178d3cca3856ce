"""What a turn has changed in files: two checkpoints compared; and that as lines that a person reads."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final, Literal

import attrs
from agentd_sink_console.neutral import neutral, one_line
from rich.text import Text

if TYPE_CHECKING:
    from agentd_snapshots.snapshots import Snapshots
    from agentd_snapshots.values import Diff

__all__ = ["FileChange", "FileChanges", "changed_lines", "counted", "read_changes"]

MAX_BYTES: Final = 256 * 1024
"""Of a file; the contents of a larger one are not compared."""
MAX_FILES: Final = 200
MAX_LINES: Final = 2_000
_APART: Final = (".git", ".agentd")
_STYLES: Final = {"+": "green", "-": "red", "@": "cyan"}


@attrs.frozen(kw_only=True)
class FileChange:
    """A file that is new, gone, or has another content.

    :ivar old: what was in it; None if it was not there, is no regular file, or is larger than is compared.
    :ivar new: what is in it now; likewise.
    """

    path: str
    word: Literal["new", "removed", "changed"]
    old: bytes | None
    new: bytes | None

    @property
    def is_known(self) -> bool:
        """True if the contents are there to be compared: it is no folder or link, and not too large."""
        known = [data for data in (self.old, self.new) if data is not None]
        return len(known) == (2 if self.word == "changed" else 1)

    @property
    def is_text(self) -> bool:
        """True if no content that is known has a zero byte in it."""
        return not any(b"\0" in data for data in (self.old, self.new) if data is not None)


@attrs.frozen(kw_only=True)
class FileChanges:
    """What is different between two checkpoints.

    :ivar everything: all that is.
    :ivar diff: what lies in no folder that nobody reads: what git keeps, what pip has installed.
    :ivar apart: what lies in such folders, each with its name.
    :ivar files: at most `MAX_FILES` of what `diff` counts.
    """

    everything: Diff
    diff: Diff
    apart: tuple[tuple[str, Diff], ...]
    files: tuple[FileChange, ...]


def read_changes(snapshots: Snapshots, before: str, after: str) -> FileChanges:
    """Return what is different in the checkpoint `after`, compared with `before`. Blocking. Raises `SnapshotError`."""
    from agentd_snapshots.reading import read_files

    everything = snapshots.diff(before, after)
    diff, apart = everything, []
    for folder in _APART:
        apart.append((folder, _only(diff, folder)))
        diff = _without(diff, folder)
    paths = sorted({*diff.added, *diff.removed, *diff.changed})[:MAX_FILES]
    old = read_files(snapshots, before, {*diff.removed, *diff.changed} & {*paths}, max_bytes=MAX_BYTES)
    new = read_files(snapshots, after, {*diff.added, *diff.changed} & {*paths}, max_bytes=MAX_BYTES)
    return FileChanges(
        everything=everything,
        diff=diff,
        apart=tuple(apart),
        files=tuple(
            FileChange(
                path=path,
                word="new" if path in diff.added else "removed" if path in diff.removed else "changed",
                old=old.get(path),
                new=new.get(path),
            )
            for path in paths
        ),
    )


def changed_lines(changes: FileChanges) -> list[Text]:
    """Return changes as lines; none if nothing is different."""
    diff = changes.diff
    lines: list[Text] = []
    for change in changes.files:
        lines += _file(change)
        if len(lines) > MAX_LINES:
            lines = [*lines[:MAX_LINES], Text("… more lines are left out", style="dim")]
            break
    lines += [
        Text(f"mode changed: {one_line(path)}", style="yellow") for path in diff.mode_changed[:MAX_FILES]
    ]
    lines += [
        Text(f"another kind of file: {one_line(p)}", style="yellow") for p in diff.type_changed[:MAX_FILES]
    ]
    for folder, inside in changes.apart:
        if inside:
            lines.append(Text(f"in {folder}: {counted(inside)}", style="bold"))
    return [*lines, Text(counted(changes.everything), style="dim")] if changes.everything else []


def _only(diff: Diff, folder: str) -> Diff:
    return _chosen(diff, lambda path: folder in path.split("/"))


def _without(diff: Diff, folder: str) -> Diff:
    return _chosen(diff, lambda path: folder not in path.split("/"))


def _chosen(diff: Diff, wanted: Callable[[str], bool]) -> Diff:
    """Return the part of a comparison that is about such paths."""
    kinds = ("added", "removed", "changed", "mode_changed", "type_changed")
    return attrs.evolve(
        diff, too_deep=0, **{kind: tuple(filter(wanted, getattr(diff, kind))) for kind in kinds}
    )


def counted(diff: Diff) -> str:
    """Return how much is different, in a few words."""
    found = {
        "added": len(diff.added),
        "removed": len(diff.removed),
        "changed": len(diff.changed) + len(diff.type_changed),
        "with another mode": len(diff.mode_changed),
    }
    return ", ".join(f"{number} {what}" for what, number in found.items() if number) or "nothing"


def _file(change: FileChange) -> Iterator[Text]:
    yield Text(f"{change.word}: {one_line(change.path)}", style="bold")
    if not change.is_known:
        return  # a folder, a link, or larger than is compared
    if not change.is_text:
        yield Text("  (no text)", style="dim")
        return
    before, after = (
        neutral((data or b"").decode("utf-8", "replace")).splitlines() for data in (change.old, change.new)
    )
    for line in list(difflib.unified_diff(before, after, lineterm="", n=3))[2:]:
        yield Text(f"  {line}", style=_STYLES.get(line[:1], ""))

"""What is different between two trees."""

from __future__ import annotations

import os
from typing import Literal

from agentd_snapshots.tree import File, FileTree, join
from agentd_snapshots.values import Diff

__all__ = ["diff_trees"]

Kind = Literal["added", "removed", "changed", "mode_changed", "type_changed"]


def diff_trees(before: FileTree, after: FileTree) -> Diff:
    """Compare two trees whose contents are both known. What either of them leaves out is not compared."""
    return _Comparison(before, after).run()


class _Comparison:
    def __init__(self, before: FileTree, after: FileTree) -> None:
        self._before = before
        self._after = after
        self._found: dict[Kind, list[str]] = {
            kind: [] for kind in ("added", "removed", "changed", "mode_changed", "type_changed")
        }
        self._too_deep = 0

    def run(self) -> Diff:
        pending: list[tuple[int, int, bytes | None]] = [(0, 0, b"")]
        while pending:
            pending += self._folder(*pending.pop())
        return Diff(
            **{kind: tuple(sorted(paths)) for kind, paths in self._found.items()}, too_deep=self._too_deep
        )

    def _folder(self, a: int, b: int, path: bytes | None) -> list[tuple[int, int, bytes | None]]:
        """Compare one folder that both have; return the pairs of subfolders."""
        before, after = self._before.folders[a], self._after.folders[b]
        if before.mode != after.mode:
            self._add("mode_changed", path or (b"." if path == b"" else None))
        skipped = {name for name, _ in before.left} | {name for name, _ in after.left}
        old = {file.name: file for file in before.files if file.name not in skipped}
        new = {file.name: file for file in after.files if file.name not in skipped}
        old_folders = {n: i for n, i in self._before.children[a].items() if n not in skipped}
        new_folders = {n: i for n, i in self._after.children[b].items() if n not in skipped}
        for name in {**old, **old_folders, **new, **new_folders}:
            here = join(path, name)
            was, now = old.get(name), new.get(name)
            if was is not None and now is not None:
                self._compare(was, now, here)
            elif name in old_folders and name in new_folders:
                continue
            elif (was is None and name not in old_folders) or (now is None and name not in new_folders):
                self._one_sided(name, old, old_folders, new_folders, here)
            else:
                self._add("type_changed", here)
                self._below(self._before, old_folders.get(name), here, "removed")
                self._below(self._after, new_folders.get(name), here, "added")
        both = old_folders.keys() & new_folders.keys()
        return [(old_folders[name], new_folders[name], join(path, name)) for name in both]

    def _one_sided(
        self,
        name: bytes,
        old: dict[bytes, File],
        old_folders: dict[bytes, int],
        new_folders: dict[bytes, int],
        path: bytes | None,
    ) -> None:
        gone = name in old or name in old_folders
        kind: Kind = "removed" if gone else "added"
        self._add(kind, path)
        tree, folders = (self._before, old_folders) if gone else (self._after, new_folders)
        self._below(tree, folders.get(name), path, kind)

    def _compare(self, was: File, now: File, path: bytes | None) -> None:
        if (was.target is None) != (now.target is None):
            self._add("type_changed", path)
        elif not was.same_content(now):
            self._add("changed", path)
        elif was.mode != now.mode:
            self._add("mode_changed", path)

    def _below(self, tree: FileTree, index: int | None, path: bytes | None, kind: Kind) -> None:
        """Add everything below a folder."""
        pending = [] if index is None else [(index, path)]
        while pending:
            at, here = pending.pop()
            for file in tree.folders[at].files:
                self._add(kind, join(here, file.name))
            for name, child in tree.children[at].items():
                self._add(kind, join(here, name))
                pending.append((child, join(here, name)))

    def _add(self, kind: Kind, path: bytes | None) -> None:
        if path is None:
            self._too_deep += 1
        else:
            self._found[kind].append(os.fsdecode(path))

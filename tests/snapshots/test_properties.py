"""Random trees and operations, compared with a model that simply remembers everything."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from agentd_snapshots import Snapshots
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from snapshot_trees import describe

names = st.sampled_from(["a", "b", "c", "ü"])
paths = st.lists(names, min_size=1, max_size=3).map(lambda parts: Path(*parts))
contents = st.sampled_from([b"", b"x", b"y", b"x" * 4096, bytes(10_000), b"z" * 1_100_000])
modes = st.sampled_from([0o600, 0o644, 0o755, 0o700])


class Workspace(RuleBasedStateMachine):
    """Operations on a workspace; after each restore it must be exactly what it was."""

    def __init__(self) -> None:
        super().__init__()
        self.top = Path(tempfile.mkdtemp(prefix="agentd-snap-"))
        self.root = self.top / "workspace"
        self.root.mkdir()
        self.snapshots = self.open()
        self.known: dict[str, dict[bytes, Any]] = {}

    def open(self) -> Snapshots:
        return Snapshots(self.root, self.top / "base")

    def teardown(self) -> None:
        shutil.rmtree(self.top)

    def clear(self, path: Path) -> Path | None:
        """The path in the workspace with nothing there and a real folder above; None if that cannot be."""
        target = self.root / path
        for parent in reversed(target.parents):
            if parent.is_relative_to(self.root) and (parent.is_symlink() or parent.is_file()):
                return None
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        elif os.path.lexists(target):
            target.unlink()
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def files(self) -> list[Path]:
        return sorted(p for p in self.root.rglob("*") if p.is_file() and not p.is_symlink())

    def entries(self) -> list[Path]:
        return sorted(self.root.rglob("*"))

    # --- what may happen to a workspace --------------------------------------------------------------------

    @initialize(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        for path in ("a", "b/a", "b/b/a", "b/b/b"):
            self.root.joinpath(path).parent.mkdir(parents=True, exist_ok=True)
            self.root.joinpath(path).write_bytes(data.draw(contents))
        os.link(self.root / "a", self.root / "b" / "c")

    @rule(data=st.data(), count=st.integers(1, 6))
    def change(self, data: st.DataObject, count: int) -> None:
        """Some changes of random kinds."""
        for _ in range(count):
            getattr(self, data.draw(st.sampled_from(CHANGES)))(data)

    def make_a_file(self, data: st.DataObject) -> None:
        if target := self.clear(data.draw(paths)):
            target.write_bytes(data.draw(contents))

    def make_a_folder(self, data: st.DataObject) -> None:
        if target := self.clear(data.draw(paths)):
            target.mkdir()

    def make_a_symlink(self, data: st.DataObject) -> None:
        if target := self.clear(data.draw(paths)):
            target.symlink_to(data.draw(st.sampled_from(["a", "../a", "/etc/passwd", "..", "."])))

    def make_a_hole(self, data: st.DataObject) -> None:
        if target := self.clear(data.draw(paths)):
            target.touch()
            os.truncate(target, data.draw(st.sampled_from([1, 5000, 3_000_000])))

    def make_a_hard_link(self, data: st.DataObject) -> None:
        path = data.draw(paths)
        if files := self.files():
            found = data.draw(st.sampled_from(files))
            target = self.root / path
            if not found.is_relative_to(target) and not target.is_relative_to(found) and self.clear(path):
                os.link(found, target)

    def break_a_hard_link(self, data: st.DataObject) -> None:
        """The same content, mode and time in a file of its own."""
        linked = [path for path in self.files() if path.stat().st_nlink > 1]
        if linked:
            target = data.draw(st.sampled_from(linked))
            copy = self.top / "copy"
            shutil.copy2(target, copy)
            os.rename(copy, target)

    def write_into_a_file(self, data: st.DataObject) -> None:
        if files := self.files():
            with data.draw(st.sampled_from(files)).open("r+b") as file:
                file.seek(data.draw(st.integers(0, 5000)))
                file.write(data.draw(contents))

    def forge_the_time(self, data: st.DataObject) -> None:
        """Same size, same time, other content."""
        if files := self.files():
            target = data.draw(st.sampled_from(files))
            status = target.stat()
            target.write_bytes(os.urandom(min(status.st_size, 5000)) + bytes(max(0, status.st_size - 5000)))
            os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))

    def change_mode(self, data: st.DataObject) -> None:
        if found := [path for path in self.entries() if not path.is_symlink()]:
            data.draw(st.sampled_from(found)).chmod(data.draw(modes))

    def change_time(self, data: st.DataObject) -> None:
        target = data.draw(st.sampled_from([self.root, *self.entries()]))
        time = data.draw(st.integers(0, 2**60))
        os.utime(target, ns=(time, time), follow_symlinks=False)

    def remove(self, data: st.DataObject) -> None:
        if found := self.entries():
            self.clear(data.draw(st.sampled_from(found)).relative_to(self.root))

    def move(self, data: st.DataObject) -> None:
        path = data.draw(paths)
        if found := self.entries():
            source = data.draw(st.sampled_from(found))
            target = self.root / path
            if not source.is_relative_to(target) and not target.is_relative_to(source) and self.clear(path):
                source.rename(target)

    # --- what snapshots do about it ------------------------------------------------------------------------

    @rule()
    def snapshot(self) -> None:
        kept = self.snapshots.snapshot()
        self.known[kept.id] = describe(self.root)
        assert not self.snapshots.diff(kept)

    @rule()
    def open_again(self) -> None:
        self.snapshots = self.open()

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def restore(self, data: st.DataObject) -> None:
        wanted = data.draw(st.sampled_from(sorted(self.known)))
        self.snapshots.restore(wanted)
        assert describe(self.root) == self.known[wanted]
        assert not self.snapshots.diff(wanted)

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def compare(self, data: st.DataObject) -> None:
        wanted = data.draw(st.sampled_from(sorted(self.known)))
        before, after = self.known[wanted], describe(self.root)
        found = self.snapshots.diff(wanted)
        assert {os.fsencode(p) for p in found.added} == after.keys() - before.keys()
        assert {os.fsencode(p) for p in found.removed} == before.keys() - after.keys()
        both = before.keys() & after.keys()
        kinds = {p for p in both if before[p][0] != after[p][0]}
        assert {os.fsencode(p) for p in found.type_changed} == kinds
        changed = {p for p in both - kinds if _content(before[p]) != _content(after[p])}
        assert {os.fsencode(p) for p in found.changed} == changed

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        wanted = data.draw(st.sampled_from(sorted(self.known)))
        self.snapshots.delete_snapshot(wanted)
        del self.known[wanted]
        assert self.snapshots.verify() == []
        assert [s.id for s in self.snapshots.list_snapshots()] == sorted(self.known)


CHANGES = [
    name
    for name in vars(Workspace)
    if name.startswith(("make_", "break_", "write_", "forge_", "change_")) or name in ("remove", "move")
]


def _content(entry: tuple[Any, ...]) -> Any:
    return {"link": entry[1], "folder": None, "file": entry[-1]}[entry[0]] if entry[0] != "file" else entry[3]


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_any_sequence_of_changes_can_be_taken_back() -> None:
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        Workspace,
        settings=settings(
            max_examples=70,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )

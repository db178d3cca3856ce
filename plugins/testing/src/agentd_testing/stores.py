"""`SnapshotStoreContract`: what every store of workspace snapshots promises, as tests."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from agentd.errors import ConfigError, SnapshotError, UnknownSnapshotError
from agentd.protocols import AsyncSnapshotStore, SnapshotStore
from hypothesis import HealthCheck, given, settings

from agentd_testing.strategies import Tree, trees, write_tree

__all__ = ["SnapshotStoreContract", "contents"]

_settings = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
_Contents = dict[str, tuple[str, int, object]]


def contents(folder: Path) -> _Contents:
    """Return kind, mode and content (or target) of everything below a folder, by path."""
    found: _Contents = {}
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(parent, name)
            status = path.lstat()
            key = str(path.relative_to(folder))
            if stat.S_ISLNK(status.st_mode):
                found[key] = ("link", 0, os.readlink(path))
            elif stat.S_ISDIR(status.st_mode):
                found[key] = ("folder", stat.S_IMODE(status.st_mode), None)
            else:
                found[key] = ("file", stat.S_IMODE(status.st_mode), path.read_bytes())
    return found


def _carried(store: SnapshotStore, id: str) -> bytes | None:
    """Return the attachment of a snapshot that may be gone; a store says that by None or by its error."""
    try:
        return store.attachment(id)
    except UnknownSnapshotError:
        return None


def _nothing() -> Sequence[str]:
    return ()


class SnapshotStoreContract:
    """Subclass it and say how a store is opened:

        class TestMyStore(SnapshotStoreContract):
            def make_store(self, workspace, base_dir, exclude):
                return MyStore(workspace, base_dir, exclude)

    A store whose snapshots do not lie below `base_dir` overrides `damage`.
    """

    def make_store(
        self, workspace: Path, base_dir: Path, exclude: Callable[[], Sequence[str]]
    ) -> SnapshotStore:
        """Open the store of a workspace."""
        pytest.fail("override make_store(workspace, base_dir, exclude) in the subclass", pytrace=False)

    def damage(self, base_dir: Path) -> None:
        """Damage the content of the snapshots: here the largest file below `base_dir`, in its middle."""
        files = [path for path in base_dir.rglob("*") if path.is_file() and not path.is_symlink()]
        largest = max(files, key=lambda path: path.stat().st_size)
        data = bytearray(largest.read_bytes())
        middle = len(data) // 2
        data[middle : middle + 64] = bytes(byte ^ 0xFF for byte in data[middle : middle + 64])
        largest.chmod(0o600)
        largest.write_bytes(data)

    @pytest.fixture
    def workspace(self, tmp_path: Path) -> Path:
        """A workspace with a bit of everything."""
        folder = tmp_path / "work"
        (folder / "a" / "b").mkdir(parents=True)
        (folder / "empty").mkdir()
        (folder / "a" / "b" / "file").write_bytes(b"one\n")
        (folder / "data").write_bytes(os.urandom(50_000))
        (folder / "program").write_text("#!/bin/sh\n")
        (folder / "program").chmod(0o755)
        (folder / "secret").write_text("s")
        (folder / "secret").chmod(0o600)
        (folder / "link").symlink_to("a/b/file")
        (folder / "broken").symlink_to("nowhere")
        return folder

    @pytest.fixture
    def store(self, workspace: Path, tmp_path: Path) -> SnapshotStore:
        """The store of that workspace."""
        return self.make_store(workspace, tmp_path / "base", _nothing)

    # --- keeping and going back ----------------------------------------------------------------------

    def test_a_workspace_comes_back_as_it_was(self, store: SnapshotStore, workspace: Path) -> None:
        before = contents(workspace)
        kept = store.snapshot("first")
        (workspace / "a" / "b" / "file").write_text("two")
        (workspace / "program").chmod(0o644)
        (workspace / "empty").rmdir()
        (workspace / "link").unlink()
        (workspace / "link").write_text("no link any more")
        shutil.rmtree(workspace / "a" / "b")
        (workspace / "more").mkdir()
        (workspace / "more" / "file").write_text("more")
        assert store.restore("first").id == kept.id
        assert contents(workspace) == before
        assert store.restore(kept.id).id == kept.id, "to restore what is there already is no error"
        assert contents(workspace) == before

    def test_any_tree_comes_back(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        @_settings
        @given(trees(), trees())
        def holds(first: Tree, second: Tree) -> None:
            folder = tmp_path_factory.mktemp("any")
            workspace = folder / "work"
            write_tree(workspace, first)
            before = contents(workspace)
            store = self.make_store(workspace, folder / "base", _nothing)
            store.snapshot()
            for path in workspace.iterdir():
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
            write_tree(workspace, second)
            store.restore(1)
            assert contents(workspace) == before

        holds()

    def test_a_folder_that_nobody_may_write_to_comes_and_goes(
        self, store: SnapshotStore, workspace: Path
    ) -> None:
        (workspace / "locked").mkdir()
        (workspace / "locked" / "file").write_text("x")
        (workspace / "locked").chmod(0o555)
        try:
            before = contents(workspace)
            store.snapshot("locked")
            store.restore("locked")
            assert contents(workspace) == before
        finally:
            (workspace / "locked").chmod(0o755)

    def test_snapshots_are_found_by_id_label_and_turn_and_the_newest_counts(
        self, store: SnapshotStore, workspace: Path
    ) -> None:
        file = workspace / "a" / "b" / "file"
        made = []
        for text, label in (("1", "x"), ("2", "y"), ("3", "x")):
            file.write_text(text)
            made.append(store.snapshot(label))
        assert [one.turn for one in made] == [1, 2, 3], (
            "without a turn, it is one more than the highest so far"
        )
        assert [one.id for one in store.list_snapshots()] == [one.id for one in made], (
            "the oldest comes first"
        )
        assert len({one.id for one in made}) == 3
        assert all(isinstance(one.timestamp, float) for one in made)
        for wanted, text in ((made[0].id, "1"), ("x", "3"), ("y", "2"), (1, "1"), ("2", "2"), (3, "3")):
            store.restore(wanted)
            assert file.read_text() == text, f"restore({wanted!r})"

    def test_a_turn_may_have_several_snapshots(self, store: SnapshotStore, workspace: Path) -> None:
        (workspace / "data").write_text("early")
        early = store.snapshot(turn=7)
        (workspace / "data").write_text("late")
        late = store.snapshot(turn=7)
        assert early.id != late.id
        assert (early.turn, late.turn, store.snapshot().turn) == (7, 7, 8)
        store.restore(7)
        assert (workspace / "data").read_text() == "late"

    def test_what_is_not_there_is_told_with_what_is(self, store: SnapshotStore, tmp_path: Path) -> None:
        kept = store.snapshot("here")
        for call in (
            store.restore,
            store.delete_snapshot,
            lambda name: store.copy_to(name, tmp_path / "out"),
        ):
            for wanted in ("nowhere", 99):
                with pytest.raises(UnknownSnapshotError) as caught:
                    call(wanted)
                assert kept.id in str(caught.value)
                assert "here" in str(caught.value)
        assert not (tmp_path / "out").exists()

    def test_a_deleted_one_is_gone_and_the_others_are_whole(
        self, store: SnapshotStore, workspace: Path
    ) -> None:
        before = contents(workspace)
        first = store.snapshot("first", attachment=b"a")
        (workspace / "a" / "b" / "file").write_text("two")
        second = store.snapshot("second")
        store.delete_snapshot("second")
        assert [one.id for one in store.list_snapshots()] == [first.id]
        assert _carried(store, second.id) is None
        store.restore("first")
        assert contents(workspace) == before
        store.delete_snapshot(first.id)
        assert store.list_snapshots() == []
        assert not store.has_attachment(first.id)
        assert _carried(store, first.id) is None
        assert contents(workspace) == before, "deleting a snapshot must not touch the workspace"

    # --- what it carries -----------------------------------------------------------------------------

    @pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 300])
    def test_an_attachment_comes_back_as_it_was(self, store: SnapshotStore, data: bytes) -> None:
        kept = store.snapshot(attachment=data)
        plain = store.snapshot()
        assert store.has_attachment(kept.id)
        assert store.attachment(kept.id) == data
        assert not store.has_attachment(plain.id)
        assert store.attachment(plain.id) is None

    # --- where things lie ----------------------------------------------------------------------------

    def test_another_object_finds_the_snapshots_and_another_workspace_does_not(
        self, store: SnapshotStore, workspace: Path, tmp_path: Path
    ) -> None:
        kept = store.snapshot("mine")
        again = self.make_store(workspace, tmp_path / "base", _nothing)
        assert [(one.id, one.label, one.turn, one.timestamp) for one in again.list_snapshots()] == [
            (kept.id, "mine", kept.turn, kept.timestamp)
        ]
        other = tmp_path / "other"
        other.mkdir()
        assert list(self.make_store(other, tmp_path / "base", _nothing).list_snapshots()) == []

    def test_snapshots_must_not_lie_in_the_workspace(self, workspace: Path) -> None:
        with pytest.raises(ConfigError, match="workspace"):
            self.make_store(workspace, workspace / "base", _nothing)

    def test_a_label_is_a_name_and_no_path(
        self, store: SnapshotStore, workspace: Path, tmp_path: Path
    ) -> None:
        store.snapshot("x/../../evil")
        assert [path for path in tmp_path.rglob("*") if "evil" in path.name] == []
        (workspace / "data").write_text("changed")
        store.restore("x/../../evil")
        assert (workspace / "data").stat().st_size == 50_000

    def test_what_is_excluded_is_not_kept_and_stays_as_it_is(self, workspace: Path, tmp_path: Path) -> None:
        excluded = ["skills"]
        store = self.make_store(workspace, tmp_path / "base", lambda: excluded)
        (workspace / "skills").mkdir()
        (workspace / "skills" / "file").write_text("then")
        store.snapshot("kept")
        (workspace / "skills" / "file").write_text("now")
        excluded.append("a/own")  # asked for each time
        (workspace / "a" / "own").write_text("mine")
        (workspace / "a" / "b" / "file").write_text("two")
        store.restore("kept")
        assert (workspace / "skills" / "file").read_text() == "now"
        assert (workspace / "a" / "own").read_text() == "mine"
        assert (workspace / "a" / "b" / "file").read_text() == "one\n"
        copied = store.copy_to("kept", tmp_path / "copy")
        assert not (copied / "skills").exists()

    def test_a_link_is_kept_as_a_link_and_never_followed(
        self, store: SnapshotStore, workspace: Path, tmp_path: Path
    ) -> None:
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "kept").write_text("s3cr3t")
        for name in ("a", "to-folder"):
            if (workspace / name).exists():
                shutil.rmtree(workspace / name)
            (workspace / name).symlink_to(outside)
        store.snapshot("linked")
        for path in (tmp_path / "base").rglob("*"):
            assert not path.is_file() or b"s3cr3t" not in path.read_bytes(), "the link was followed"
        (workspace / "a").unlink()
        (workspace / "a").mkdir()
        store.restore("linked")
        assert os.readlink(workspace / "a") == str(outside)
        (workspace / "to-folder").unlink()
        (workspace / "to-folder").mkdir()
        (workspace / "to-folder" / "kept").write_text("mine")
        store.snapshot("folder")
        shutil.rmtree(workspace / "to-folder")
        (workspace / "to-folder").symlink_to(outside)
        store.restore("folder")
        assert (workspace / "to-folder" / "kept").read_text() == "mine"
        assert (outside / "kept").read_text() == "s3cr3t", "a restore wrote through a link"
        assert [path.name for path in outside.iterdir()] == ["kept"]

    # --- copies --------------------------------------------------------------------------------------

    def test_a_copy_is_the_workspace_of_then(
        self, store: SnapshotStore, workspace: Path, tmp_path: Path
    ) -> None:
        before = contents(workspace)
        store.snapshot("kept")
        (workspace / "data").write_text("changed")
        now = contents(workspace)
        (tmp_path / "there").mkdir()
        for folder in (tmp_path / "new" / "one", tmp_path / "there"):
            assert store.copy_to("kept", folder) == folder.resolve()
            assert contents(folder) == before
        assert contents(workspace) == now

    def test_a_folder_that_is_not_empty_is_no_place_for_a_copy(
        self, store: SnapshotStore, tmp_path: Path
    ) -> None:
        store.snapshot("kept")
        full = tmp_path / "full"
        full.mkdir()
        (full / "mine").write_text("mine")
        with pytest.raises(SnapshotError):
            store.copy_to("kept", full)
        assert [path.name for path in full.iterdir()] == ["mine"]
        assert (full / "mine").read_text() == "mine"

    # --- what fails ----------------------------------------------------------------------------------

    def test_a_damaged_snapshot_is_told_and_the_workspace_stays_as_it_was(
        self, store: SnapshotStore, workspace: Path, tmp_path: Path
    ) -> None:
        store.snapshot("damaged")
        self.damage(tmp_path / "base")
        (workspace / "data").write_text("precious")
        (workspace / "more").write_text("precious, too")
        before = contents(workspace)
        with pytest.raises(SnapshotError):
            self.make_store(workspace, tmp_path / "base", _nothing).restore("damaged")
        assert contents(workspace) == before, "a restore that fails must leave the workspace as it was"

    # --- their twins ---------------------------------------------------------------------------------

    @pytest.fixture(params=["asyncio", "trio"])
    def anyio_backend(self, request: pytest.FixtureRequest) -> str:
        """Both event loops: a session may run on either."""
        backend = request.param
        assert isinstance(backend, str)
        return backend

    @pytest.mark.anyio
    async def test_the_awaited_methods_do_the_same(
        self, store: SnapshotStore, workspace: Path, tmp_path: Path
    ) -> None:
        if not isinstance(store, AsyncSnapshotStore):
            pytest.skip("this store has no awaited methods: a session calls the others in a thread")
        before = contents(workspace)
        kept = await store.asnapshot("kept", attachment=b"a")
        (workspace / "data").write_text("changed")
        assert (await store.arestore("kept")).id == kept.id
        assert contents(workspace) == before
        assert contents(await store.acopy_to("kept", tmp_path / "copy")) == before
        await store.adelete_snapshot("kept")
        assert store.list_snapshots() == []

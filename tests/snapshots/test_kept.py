"""What a snapshot keeps, what it leaves out, and that a restore brings it back exactly."""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from agentd.errors import SnapshotError
from agentd_snapshots import Diff, LeftOut, Snapshots
from snapshot_trees import describe, run_unprivileged, write

MIB = 1 << 20


def there_and_back(snapshots: Snapshots) -> None:
    """Snapshot, empty the workspace, restore: everything must be the same."""
    workspace = snapshots.workspace_dir
    before = describe(workspace)
    kept = snapshots.snapshot()
    for path in workspace.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    snapshots.restore(kept)
    assert describe(workspace) == before
    assert snapshots.verify() == []


def test_files_empty_folders_modes_and_times_come_back(workspace: Path, base_dir: Path) -> None:
    write(workspace, {"a.txt": "a", "sub/deep/b": b"\0\xff", "empty": ""})
    (workspace / "hollow" / "inner").mkdir(parents=True)
    (workspace / "a.txt").chmod(0o640)
    (workspace / "sub").chmod(0o711)
    (workspace / "hollow").chmod(0o1777)
    os.utime(workspace / "sub/deep/b", ns=(1, 1_234_567_890_123_456_789))
    os.utime(workspace / "hollow", ns=(1, 987_654_321_000_000_001))
    there_and_back(Snapshots(workspace, base_dir))


def test_a_store_that_is_not_durable_waits_for_no_disk_and_keeps_the_same(
    workspace: Path, base_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[int] = []
    monkeypatch.setattr(os, "fsync", waits.append)
    write(workspace, {"a.txt": "a", "sub/deep/b": b"\0\xff"})
    there_and_back(Snapshots(workspace, base_dir, durable=False))
    assert waits == []
    write(workspace, {"a.txt": "b"})
    Snapshots(workspace, base_dir).snapshot()
    assert waits


def test_symlinks_are_kept_as_links_and_never_followed(
    workspace: Path, base_dir: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "outside"
    write(secret, {"secret": "do not read me"})
    (workspace / "folder").symlink_to(secret)
    (workspace / "file").symlink_to(secret / "secret")
    (workspace / "dangling").symlink_to("nowhere")
    (workspace / "loop").symlink_to("loop")
    os.utime(workspace / "dangling", ns=(5, 5), follow_symlinks=False)
    snapshots = Snapshots(workspace, base_dir)
    there_and_back(snapshots)
    assert (secret / "secret").read_text() == "do not read me"
    packs = b"".join(path.read_bytes() for path in base_dir.rglob("*") if path.is_file())
    assert b"do not read me" not in packs


def test_hard_links_come_back_as_one_file_with_several_names(workspace: Path, base_dir: Path) -> None:
    write(workspace, {"a": "shared", "single": "alone"})
    (workspace / "sub").mkdir()
    os.link(workspace / "a", workspace / "sub" / "b")
    os.link(workspace / "a", workspace / "c")
    snapshots = Snapshots(workspace, base_dir)
    there_and_back(snapshots)
    kept = snapshots.snapshot()
    before = describe(workspace)
    (workspace / "c").unlink()
    (workspace / "c").write_text("shared")  # the same content, another file
    os.utime(workspace / "c", ns=(1, os.stat(workspace / "a").st_mtime_ns))
    os.link(workspace / "single", workspace / "double")
    snapshots.restore(kept)
    assert describe(workspace) == before
    write(workspace, {"twin": "alone"})
    os.utime(workspace / "twin", ns=(1, os.stat(workspace / "single").st_mtime_ns))
    apart, before = snapshots.snapshot(), describe(workspace)
    (workspace / "twin").unlink()
    os.link(workspace / "single", workspace / "twin")  # looks the same, and is one file now
    snapshots.restore(apart)
    assert describe(workspace) == before
    (workspace / "a").write_text("new")
    assert (workspace / "sub" / "b").read_text() == "new"


def test_a_hard_link_to_a_file_outside_never_changes_that_file(
    workspace: Path, base_dir: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.write_text("first")
    os.link(outside, workspace / "inside")
    snapshots = Snapshots(workspace, base_dir)
    first = snapshots.snapshot()
    outside.write_text("second")
    outside.chmod(0o600)
    os.utime(outside, ns=(7, 7))
    kept = os.stat(outside)
    snapshots.restore(first)
    assert (workspace / "inside").read_text() == "first"
    (workspace / "inside").unlink()
    os.link(outside, workspace / "inside")
    outside.write_text("first")  # now mode and time differ alone
    os.utime(outside, ns=(7, 7))
    snapshots.restore(first)
    assert outside.read_text() == "first"
    now = os.stat(outside)
    assert (now.st_mode, now.st_mtime_ns, now.st_ino) == (kept.st_mode, 7, kept.st_ino)


def test_what_a_database_has_beside_its_file_is_kept(workspace: Path, base_dir: Path) -> None:
    with closing(sqlite3.connect(workspace / "d.db", isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA wal_autocheckpoint = 0")
        db.execute("CREATE TABLE t (n)")
        db.execute("INSERT INTO t VALUES (1)")
        snapshots = Snapshots(workspace, base_dir)
        kept = snapshots.snapshot()
        assert (workspace / "d.db-wal").stat().st_size > 0  # the row is there and nowhere else
    copy = workspace.parent / "copy"
    snapshots.copy_to(kept, copy)
    assert sorted(path.name for path in copy.iterdir()) == ["d.db", "d.db-shm", "d.db-wal"]
    (workspace / "d.db").unlink()
    snapshots.restore(kept)
    for place in (workspace, copy):
        with closing(sqlite3.connect(place / "d.db")) as db:
            assert db.execute("SELECT n FROM t").fetchall() == [(1,)]


def test_sparse_files_stay_sparse_and_large_ones_are_not_read(workspace: Path, base_dir: Path) -> None:
    huge = workspace / "huge"
    with huge.open("wb") as file:
        file.truncate(1 << 40)
        file.seek(300 * MIB + 17)
        file.write(b"in the middle")
        file.seek((1 << 40) - 3)
        file.write(b"end")
    (workspace / "hole").touch()
    os.truncate(workspace / "hole", 5 * MIB)
    snapshots = Snapshots(workspace, base_dir)
    kept = snapshots.snapshot()
    assert kept.stats.new_bytes < 3 * MIB
    huge.unlink()
    (workspace / "hole").unlink()
    snapshots.restore(kept)
    with huge.open("rb") as file:
        file.seek(300 * MIB + 16)
        assert file.read(15) == b"\0in the middle\0"
        file.seek((1 << 40) - 4)
        assert file.read() == b"\0end"
    assert huge.stat().st_blocks * 512 < 4 * MIB
    assert (workspace / "hole").stat().st_size == 5 * MIB
    assert (workspace / "hole").stat().st_blocks == 0
    assert not snapshots.diff(kept)


def test_zeros_that_are_no_hole_are_written_again(workspace: Path, base_dir: Path) -> None:
    data = bytes(2 * MIB) + b"x" * MIB + bytes(MIB + 5)
    (workspace / "dense").write_bytes(data)
    (workspace / "zeros").write_bytes(bytes(3 * MIB))
    (workspace / "small").write_bytes(bytes(5000))
    snapshots = Snapshots(workspace, base_dir)
    there_and_back(snapshots)
    assert (workspace / "dense").stat().st_blocks * 512 >= len(data)


def test_a_large_file_that_changed_in_one_place_adds_one_chunk(workspace: Path, base_dir: Path) -> None:
    data = random.Random(1).randbytes(8 * MIB + 12345)
    big = workspace / "big"
    big.write_bytes(data)
    snapshots = Snapshots(workspace, base_dir)
    first = snapshots.snapshot()
    with big.open("r+b") as file:
        file.seek(5 * MIB + 3)
        file.write(b"changed")
    second = snapshots.snapshot()
    assert second.stats.new_bytes == MIB
    snapshots.restore(first)
    assert big.read_bytes() == data
    snapshots.restore(second)
    assert big.read_bytes() == data[: 5 * MIB + 3] + b"changed" + data[5 * MIB + 10 :]


def test_equal_contents_are_stored_once(workspace: Path, base_dir: Path) -> None:
    write(workspace, {f"copy{i}": "x" * 5000 for i in range(20)})
    assert Snapshots(workspace, base_dir).snapshot().stats.new_bytes == 5000


def test_names_may_be_any_bytes_and_as_long_as_the_system_allows(workspace: Path, base_dir: Path) -> None:
    for name in (b"\xff\xfe", b"new\nline", "ümlaut".encode(), b"x" * 255, b" ", b"-rf", b"*"):
        with open(os.path.join(os.fsencode(workspace), name), "wb") as file:
            file.write(name)
    os.mkdir(os.path.join(os.fsencode(workspace), b"\xc3\x28"))
    snapshots = Snapshots(workspace, base_dir)
    there_and_back(snapshots)
    kept = snapshots.snapshot()
    os.unlink(os.path.join(os.fsencode(workspace), b"\xff\xfe"))
    assert snapshots.diff(kept).removed == (os.fsdecode(b"\xff\xfe"),)


@pytest.mark.slow
def test_a_tree_deeper_than_any_path_and_any_recursion_limit(workspace: Path, base_dir: Path) -> None:
    depth = 1500
    start = os.getcwd()
    try:
        os.chdir(workspace)
        for level in range(depth):
            Path("f").write_text(str(level))
            os.mkdir("d" * 20)
            os.mkdir("side")
            os.chdir("d" * 20)
    finally:
        os.chdir(start)
    snapshots = Snapshots(workspace, base_dir)
    kept = snapshots.snapshot()
    assert (kept.stats.files, kept.stats.folders) == (depth, 2 * depth)
    shutil_rmtree_deep(workspace)
    snapshots.restore(kept)
    again = snapshots.snapshot()
    assert (again.stats.files, again.stats.folders) == (depth, 2 * depth)
    assert snapshots.diff(kept, again) == Diff()
    shutil_rmtree_deep(workspace)
    gone = snapshots.diff(kept)
    assert len(gone.removed) + gone.too_deep == 3 * depth
    assert gone.too_deep > 0


def shutil_rmtree_deep(workspace: Path) -> None:
    subprocess.run(["find", ".", "-mindepth", "1", "-delete"], cwd=workspace, check=True)


def test_a_nested_git_repository_is_data(workspace: Path, base_dir: Path) -> None:
    write(workspace, {"repo/.git/HEAD": "ref: refs/heads/main\n", "repo/.git/objects/ab/cd": b"\x78\x01"})
    (workspace / "repo/.git/refs/tags").mkdir(parents=True)
    write(workspace, {".gitignore": "*\n", "ignored": "kept all the same"})
    there_and_back(Snapshots(workspace, base_dir))


# --- what is left out -------------------------------------------------------------------------------------


def test_sockets_and_fifos_are_left_out_reported_and_left_alone(workspace: Path, base_dir: Path) -> None:
    os.mkfifo(workspace / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(workspace / "socket"))
    write(workspace, {"file": "x"})
    snapshots = Snapshots(workspace, base_dir)
    kept = snapshots.snapshot()
    assert kept.stats.left_out == (LeftOut("pipe", "fifo"), LeftOut("socket", "socket"))
    os.mkfifo(workspace / "later")
    (workspace / "file").unlink()
    os.mkfifo(workspace / "file")
    snapshots.restore(kept)
    assert sorted(os.listdir(workspace)) == ["file", "pipe", "socket"]
    assert (workspace / "file").read_text() == "x"


def test_excluded_entries_are_reported_and_survive_every_restore(workspace: Path, base_dir: Path) -> None:
    write(
        workspace,
        {
            ".bashrc": "placeholder",
            "sub/.bashrc": "mine",
            ".agentd/home/x": "agentd's",
            ".agentd/site/module.py": "1",
            "app/node_modules/m": "1",
            "app/a.log": "1",
            "app/code": "1",
            "secret.key": "1",
        },
    )
    snapshots = Snapshots(
        workspace,
        base_dir,
        exclude=[".bashrc"],
        ignore=["node_modules", "app/*.log"],
        exclude_if=lambda path: path.endswith(".key"),
    )
    kept = snapshots.snapshot()
    assert {left.path for left in kept.stats.left_out} == {
        *(".bashrc", ".agentd/home", "app/node_modules", "app/a.log", "secret.key")
    }
    assert {left.reason for left in kept.stats.left_out} == {"excluded"}
    write(workspace, {".bashrc": "2", "app/node_modules/m": "2", "secret.key": "2", "sub/.bashrc": "2"})
    write(workspace, {".agentd/site/module.py": "2"})
    write(workspace, {"new/node_modules/m": "2", "new/code": "2", "app/code": "2"})
    snapshots.restore(kept)
    found = {str(p.relative_to(workspace)): p.read_text() for p in workspace.rglob("*") if p.is_file()}
    assert found == {
        ".bashrc": "2",
        "sub/.bashrc": "mine",
        ".agentd/home/x": "agentd's",
        ".agentd/site/module.py": "1",
        "app/node_modules/m": "2",
        "app/a.log": "1",
        "app/code": "1",
        "secret.key": "2",
        "new/node_modules/m": "2",  # what is excluded is nobody's to remove, nor the folder that holds it
    }


def test_what_blocks_have_installed_is_kept_and_the_rest_of_agentds_folder_is_not(
    workspace: Path, base_dir: Path
) -> None:
    snapshots = Snapshots(workspace, base_dir)
    write(workspace, {"file": "1", ".agentd/home/x": "1"})
    without = snapshots.snapshot()
    assert without.stats.left_out == ()
    write(workspace, {".agentd/site/module.py": "1"})
    installed = snapshots.snapshot()
    assert [left.path for left in installed.stats.left_out] == [".agentd/home"]
    snapshots.restore(without)
    assert not (workspace / ".agentd/site").exists()
    assert not snapshots.diff(without)
    assert (workspace / ".agentd/home/x").read_text() == "1"
    snapshots.restore(installed)
    assert (workspace / ".agentd/site/module.py").read_text() == "1"
    assert snapshots.copy_to(installed, base_dir / "copy").joinpath(".agentd/site/module.py").exists()


def test_set_id_bits_are_dropped_and_reported(workspace: Path, base_dir: Path) -> None:
    write(workspace, {"tool": "#!/bin/sh\n"})
    (workspace / "tool").chmod(0o6755)
    snapshots = Snapshots(workspace, base_dir)
    kept = snapshots.snapshot()
    assert kept.stats.left_out == (LeftOut("tool", "set-id bits"),)
    (workspace / "tool").unlink()
    snapshots.restore(kept)
    assert (workspace / "tool").stat().st_mode & 0o7777 == 0o755


def test_a_snapshot_is_never_less_than_complete_without_being_told_so() -> None:
    run_unprivileged(
        """
import os
from pathlib import Path
from agentd.errors import SnapshotError
from agentd_snapshots import LeftOut, Snapshots
ws = Path("ws"); (ws / "closed").mkdir(parents=True)
(ws / "closed" / "in").write_text("1"); (ws / "secret").write_text("1"); (ws / "open").write_text("1")
s = Snapshots(ws, "base")
whole = s.snapshot()
(ws / "secret").chmod(0); (ws / "closed").chmod(0)
for work in (s.snapshot, lambda: s.diff(whole)):
    try:
        work()
    except SnapshotError as exc:
        assert "'secret' (Permission denied), 'closed' (Permission denied) cannot be read" in str(exc), exc
    else:
        raise SystemExit("it worked")
assert s.list_snapshots() == [whole]
assert len(os.listdir(s.store.folder / "packs")) == 1
s = Snapshots(ws, "base", ignore=["closed", "secret"])
kept = s.snapshot()
assert set(kept.stats.left_out) == {LeftOut("closed", "excluded"), LeftOut("secret", "excluded")}, kept.stats
(ws / "open").write_text("2"); (ws / "later").write_text("1"); (ws / "later").chmod(0)
(ws / "dark").mkdir(); (ws / "dark" / "x").write_text("1"); (ws / "dark").chmod(0)
s.restore(kept)
assert sorted(os.listdir(ws)) == ["closed", "open", "secret"], os.listdir(ws)
assert (ws / "open").read_text() == "1"
assert (ws / "secret").stat().st_mode & 0o777 == 0
"""
    )


def test_a_file_on_which_somebody_holds_a_lease_is_named(workspace: Path, base_dir: Path) -> None:
    write(workspace, {"leased": "1", "other": "2"})
    held = os.open(workspace / "leased", os.O_RDWR)
    broken = signal.signal(signal.SIGIO, signal.SIG_IGN)
    try:
        fcntl.fcntl(held, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        with pytest.raises(SnapshotError, match=r"'leased' \(somebody holds a lease on it\) cannot be read"):
            Snapshots(workspace, base_dir).snapshot()
    finally:
        os.close(held)
        signal.signal(signal.SIGIO, broken)
    assert Snapshots(workspace, base_dir).snapshot().stats.files == 2


def test_folders_that_forbid_writing_are_restored_by_a_plain_user() -> None:
    run_unprivileged(
        """
import os
from pathlib import Path
from agentd_snapshots import Snapshots
from snapshot_trees import describe, write
ws = Path("ws")
write(ws, {"mod/cache/a": "1", "mod/cache/b": "1", "mod/other": "1"})
for path in ("mod/cache/a", "mod/cache", "mod"):
    (ws / path).chmod(0o555 if (ws / path).is_dir() else 0o444)
s = Snapshots(ws, "base")
before, kept = describe(ws), s.snapshot()
(ws / "mod").chmod(0o755); (ws / "mod/cache").chmod(0o755)
(ws / "mod/cache/a").unlink(); (ws / "mod/cache/c").write_text("new")
(ws / "mod/cache").chmod(0o555); (ws / "mod").chmod(0o555)
s.restore(kept)
assert describe(ws) == before
(ws / "mod").rename(ws / "gone"); os.chmod(ws / "gone", 0o555)
s.restore(kept)
assert describe(ws) == before
"""
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away: run the tests as root too")
def test_owners_come_back_when_root_restores(workspace: Path, base_dir: Path) -> None:
    write(workspace, {"theirs": "x", "sub/x": "y"})
    os.chown(workspace / "theirs", 12345, 54321)
    os.chown(workspace / "sub", 12345, 54321)
    snapshots = Snapshots(workspace, base_dir)
    kept = snapshots.snapshot()
    os.chown(workspace / "theirs", 0, 0)
    shutil.rmtree(workspace / "sub")
    snapshots.restore(kept)
    for name in ("theirs", "sub"):
        found = os.stat(workspace / name)
        assert (found.st_uid, found.st_gid) == (12345, 54321)


def test_what_is_excluded_by_a_function_is_asked_for_each_time(workspace: Path, base_dir: Path) -> None:
    write(workspace, {"file": "1", "placeholder": "", "sub/placeholder": ""})
    now: list[str] = ["placeholder"]
    snapshots = Snapshots(workspace, base_dir, exclude=lambda: now, ignore=["*.log"])
    kept = snapshots.snapshot()
    assert [left.path for left in kept.stats.left_out] == ["placeholder"]
    write(workspace, {"file": "2", "sub/x.log": "x"})
    snapshots.restore(kept)
    assert (workspace / "placeholder").exists()
    now.clear()
    later = snapshots.snapshot()
    assert later.stats.files == 3
    assert [left.path for left in later.stats.left_out] == ["sub/x.log"]
    now.append("sub")
    write(workspace, {"sub/placeholder": "changed"})
    assert not snapshots.diff(later)

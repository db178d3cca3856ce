"""Whose files are after a restore."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from agentd_snapshots import Snapshots
from snapshot_trees import write

needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can give files away: run the tests as root too"
)
OWNER, TENANT, OTHER = 12345, 58123, 54321


def give(root: Path, uid: int, gid: int) -> None:
    for path in (root, *root.rglob("*")):
        os.chown(path, uid, gid, follow_symlinks=False)


def owner(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_uid, found.st_gid


@needs_root
def test_what_was_the_workspace_s_owner_s_is_his_successor_s(workspace: Path, base_dir: Path) -> None:
    write(workspace, {"file": "1", "sub/file": "2", "other": "3"})
    (workspace / "link").symlink_to("file")
    give(workspace, OWNER, OWNER + 1)
    os.chown(workspace / "other", OTHER, OTHER)
    snapshots = Snapshots(workspace, base_dir)
    kept = snapshots.snapshot()
    give(workspace, TENANT, TENANT + 1)
    write(workspace, {"file": "changed", "other": "changed"})
    shutil.rmtree(workspace / "sub")
    (workspace / "link").unlink()
    snapshots.restore(kept)
    names = ("", "file", "sub", "sub/file", "link")
    assert {owner(workspace / name) for name in names} == {(TENANT, TENANT + 1)}
    assert owner(workspace / "other") == (OTHER, OTHER)


@needs_root
def test_a_group_of_the_user_s_own_number_goes_with_the_user(workspace: Path, base_dir: Path) -> None:
    write(workspace, {"mine": "1", "shared": "2"})
    give(workspace, TENANT, 0)
    os.chown(workspace / "mine", TENANT, TENANT)
    os.chown(workspace / "shared", TENANT, OTHER)
    snapshots = Snapshots(workspace, base_dir)
    kept = snapshots.snapshot()
    write(workspace, {"mine": None, "shared": None})
    os.chown(workspace, OWNER, OWNER + 1)
    snapshots.restore(kept)
    assert owner(workspace / "mine") == (OWNER, OWNER + 1)
    assert owner(workspace / "shared") == (OWNER, OTHER)


@needs_root
def test_a_workspace_that_is_made_anew_gets_the_owner_that_it_had(workspace: Path, base_dir: Path) -> None:
    write(workspace, {"file": "1"})
    give(workspace, OWNER, OTHER)
    snapshots = Snapshots(workspace, base_dir)
    kept = snapshots.snapshot()
    shutil.rmtree(workspace)
    snapshots.restore(kept)
    assert owner(workspace) == owner(workspace / "file") == (OWNER, OTHER)


@needs_root
def test_a_change_of_hands_alone_is_nothing_to_restore(workspace: Path, base_dir: Path) -> None:
    write(workspace, {"file": "1", "sub/file": "2"})
    snapshots = Snapshots(workspace, base_dir)
    kept = snapshots.snapshot()
    give(workspace, TENANT, -1)
    before = (workspace / "file").stat()
    snapshots.restore(kept)
    after = (workspace / "file").stat()
    assert (after.st_ino, after.st_ctime_ns, after.st_uid) == (before.st_ino, before.st_ctime_ns, TENANT)


@needs_root
def test_links_and_files_of_owners_that_a_user_namespace_does_not_know_come_back(
    workspace: Path, base_dir: Path
) -> None:
    """Root of a container without root's rights (rootless Podman or Docker) sees such owners as nobody."""
    unshare = shutil.which("unshare")
    command = [str(unshare), "--user", "--map-root-user"]
    if unshare is None or subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("needs user namespaces, which this machine does not allow")
    write(workspace, {"file": "1"})
    (workspace / "link").symlink_to("file")
    for name in ("file", "link"):
        os.chown(workspace / name, OTHER, OTHER, follow_symlinks=False)
    os.chmod(workspace / "file", 0o644)
    script = """
    import os, sys
    from agentd_snapshots import Snapshots
    snapshots = Snapshots(sys.argv[1], sys.argv[2])
    kept = snapshots.snapshot()
    for name in ("file", "link"):
        os.unlink(os.path.join(sys.argv[1], name))
    snapshots.restore(kept)
    assert not snapshots.diff(kept)
    """
    done = subprocess.run(
        [*command, sys.executable, "-c", textwrap.dedent(script), str(workspace), str(base_dir)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert os.readlink(workspace / "link") == "file"

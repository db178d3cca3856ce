"""kill -9, a full disk and failing system calls: all or nothing, and nothing is left lying about."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from agentd.errors import SnapshotError
from agentd_snapshots import Snapshots
from killed_steps import killed_at_every_step
from places import SUPPORT
from snapshot_trees import describe, write


def fill(workspace: Path) -> None:
    """The first state: some of everything."""
    write(
        workspace, {"same": "same", "edited": "1", "gone": "1", "tree/x/y": "1", "tree/z": "1", "kind": "1"}
    )
    (workspace / "empty").mkdir()
    (workspace / "link").symlink_to("same")
    os.link(workspace / "edited", workspace / "tree" / "edited too")
    (workspace / "mode").write_text("m")
    (workspace / "mode").chmod(0o600)


def change(workspace: Path) -> None:
    """The second state: everything has changed in its way."""
    write(workspace, {"edited": "2", "gone": None, "new/a/b": "2", "kind": None, "kind/now/folder": "2"})
    shutil.rmtree(workspace / "tree")
    (workspace / "empty").rmdir()
    (workspace / "empty").symlink_to("new")
    (workspace / "mode").chmod(0o755)
    (workspace / "link").unlink()
    os.link(workspace / "same", workspace / "link")


def clean(snapshots: Snapshots) -> None:
    """Nothing is left of what was interrupted."""
    assert not list(snapshots.workspace_dir.glob(".agentd*"))
    assert os.listdir(snapshots.store.folder / "tmp") == []
    assert not (snapshots.store.folder / "journal").exists()


@pytest.mark.slow
def test_a_restore_that_is_killed_at_any_step_is_all_or_nothing(workspace: Path, base_dir: Path) -> None:
    fill(workspace)
    snapshots = Snapshots(workspace, base_dir)
    first, one = snapshots.snapshot(), describe(workspace)
    change(workspace)
    second, two = snapshots.snapshot(), describe(workspace)
    outcomes = set()
    for _ in killed_at_every_step(lambda: Snapshots(workspace, base_dir).restore(first)):
        snapshots = Snapshots(workspace, base_dir)  # what ends the interrupted one
        found = describe(workspace)
        assert found in (one, two)
        outcomes.add(found == one)
        with snapshots.store.locked():  # what was never finished goes with the next lock
            pass
        clean(snapshots)
        assert not snapshots.diff(first if found == one else second)
        snapshots.restore(second)
        assert describe(workspace) == two
    assert describe(workspace) == one
    assert outcomes == {True, False}


@pytest.mark.slow
def test_the_end_of_an_interrupted_restore_may_be_killed_as_well(workspace: Path, base_dir: Path) -> None:
    fill(workspace)
    snapshots = Snapshots(workspace, base_dir)
    first, one = snapshots.snapshot(), describe(workspace)
    change(workspace)
    second = snapshots.snapshot()
    begun = False
    for step in killed_at_every_step(lambda: Snapshots(workspace, base_dir).restore(first)):
        journal = snapshots.store.folder / "journal"
        if not journal.exists() or b"applying" not in journal.read_bytes() or step % 4:
            Snapshots(workspace, base_dir).restore(second)
            continue
        begun = True
        for _ in killed_at_every_step(lambda: Snapshots(workspace, base_dir), every=3):
            pass
        assert describe(workspace) == one
        clean(snapshots)
        snapshots.restore(second)
    assert begun


def test_a_snapshot_that_is_killed_at_any_step_leaves_no_half_snapshot(
    workspace: Path, base_dir: Path
) -> None:
    fill(workspace)
    before = describe(workspace)
    count = 0
    for _ in killed_at_every_step(lambda: Snapshots(workspace, base_dir).snapshot()):
        snapshots = Snapshots(workspace, base_dir)
        assert snapshots.verify() == []
        found = snapshots.list_snapshots()
        assert len(found) - count in (0, 1)
        count = len(found)
        clean(snapshots)
        for snapshot in found:
            assert not snapshots.diff(snapshot)
        if count == 1:
            snapshots.delete_snapshot(found[0])
            count = 0
        assert describe(workspace) == before


@pytest.mark.parametrize("salt", range(4))  # the order of packs depends on their contents
def test_a_pack_that_was_moved_but_not_removed_is_not_lost(
    workspace: Path, base_dir: Path, salt: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshots = Snapshots(workspace, base_dir)
    write(workspace, {f"{n}": f"{n}{salt}" * 5_000 for n in range(5)})
    first = snapshots.snapshot()
    write(workspace, {f"{n}": None for n in range(4)})
    snapshots.snapshot()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda self, **_: os.unlink(self) if self.suffix != ".pack" else 1 / 0)
        with pytest.raises(ZeroDivisionError):
            snapshots.delete_snapshot(first)
    assert len(list(base_dir.rglob("*.pack"))) == 2
    Snapshots(workspace, base_dir).collect_garbage()
    assert Snapshots(workspace, base_dir).verify() == []
    assert len(list(base_dir.rglob("*.pack"))) == 1


def test_deleting_that_is_killed_at_any_step_harms_no_other_snapshot(workspace: Path, base_dir: Path) -> None:
    fill(workspace)
    snapshots = Snapshots(workspace, base_dir)
    write(workspace, {f"big{n}": f"{n}" * 10_000 for n in range(5)})
    first = snapshots.snapshot("first")
    change(workspace)
    write(workspace, {f"big{n}": None for n in range(4)})
    snapshots.snapshot("second")  # needs a small part of the first one's pack
    two = describe(workspace)

    def delete() -> None:
        here = Snapshots(workspace, base_dir)
        if here.list_snapshots()[0].id == first.id:
            here.delete_snapshot(first)
        else:
            here.collect_garbage()

    for _ in killed_at_every_step(delete):
        snapshots = Snapshots(workspace, base_dir)
        assert snapshots.verify() == []
        write(workspace, {"edited": "3"})
        snapshots.restore("second")
        assert describe(workspace) == two
    assert Snapshots(workspace, base_dir).verify() == []
    assert sum(path.stat().st_size for path in base_dir.rglob("*.pack")) < 12_000  # one of five large files


LOOP = """
import sys
from agentd_snapshots import Snapshots
print("ready", flush=True)
while True:
    for label in ("one", "two"):
        Snapshots(sys.argv[1], sys.argv[2]).restore(label)
        s = Snapshots(sys.argv[1], sys.argv[2])
        s.delete_snapshot(s.snapshot("passing"))
"""


@pytest.mark.slow
def test_kill_9_in_a_loop_never_leaves_a_mix(workspace: Path, base_dir: Path) -> None:
    rng = random.Random(9)
    snapshots = Snapshots(workspace, base_dir)
    states = []
    for label in ("one", "two"):
        write(workspace, {f"{i % 7}/{i}": label * (i * 10) for i in range(60)})
        write(workspace, {f"{label}/{i}": "x" for i in range(20)})
        if label == "two":
            shutil.rmtree(workspace / "one")
        snapshots.snapshot(label)
        states.append(describe(workspace))
    end = time.monotonic() + 5
    while time.monotonic() < end:
        child = subprocess.Popen(
            [sys.executable, "-c", LOOP, str(workspace), str(base_dir)], stdout=subprocess.PIPE
        )
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == b"ready\n"
            time.sleep(rng.random() * 0.08)  # anywhere
        finally:
            child.send_signal(signal.SIGKILL)
            child.communicate()
        snapshots = Snapshots(workspace, base_dir)
        assert describe(workspace) in states
        assert snapshots.verify() == []
        for label, state in zip(("one", "two"), states, strict=True):
            snapshots.restore(label)
            assert describe(workspace) == state
        clean(snapshots)


# --- failing system calls -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rename", "link", "symlink", "mkdir", "utime", "fchmod", "write"])
def test_a_restore_that_fails_at_any_step_is_taken_back(
    workspace: Path, base_dir: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    fill(workspace)
    snapshots = Snapshots(workspace, base_dir)
    first, one = snapshots.snapshot(), describe(workspace)
    change(workspace)
    two = describe(workspace)
    real: Callable[..., Any] = getattr(os, name)
    for step in range(1, 100):
        left = [step]

        def failing(*args: Any, left: list[int] = left, **kwargs: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(*args, **kwargs)

        failure: SnapshotError | None = None
        with monkeypatch.context() as patch:
            patch.setattr(os, name, failing)
            try:
                snapshots.restore(first)
            except SnapshotError as exc:
                failure = exc
        if failure is None:
            assert left[0] > 0
            break
        assert failure.errno == errno.ENOSPC
        assert "No space left on device" in str(failure)
        if describe(workspace) == two:
            clean(snapshots)
        else:  # the last steps: everything is in its place and only rubbish was left
            snapshots.snapshot()
            assert describe(workspace) == one
            break
    assert step > 1
    assert describe(workspace) == one
    clean(snapshots)


@pytest.mark.parametrize("name", ["write", "fsync", "rename", "open"])
def test_a_snapshot_that_fails_at_any_step_leaves_nothing(
    workspace: Path, base_dir: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    fill(workspace)
    write(workspace, {"big": random.Random(3).randbytes(2_500_000)})
    snapshots = Snapshots(workspace, base_dir)
    real: Callable[..., Any] = getattr(os, name)
    for step in range(1, 100):
        left = [step]

        def failing(*args: Any, left: list[int] = left, **kwargs: Any) -> Any:
            if name != "open" or args[1] & os.O_CREAT:
                left[0] -= 1
                if left[0] == 0:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(*args, **kwargs)

        failure: SnapshotError | None = None
        with monkeypatch.context() as patch:
            patch.setattr(os, name, failing)
            try:
                kept = snapshots.snapshot()
            except SnapshotError as exc:
                failure = exc
        if left[0] > 0:
            break
        assert failure is None or failure.errno == errno.ENOSPC
        assert snapshots.verify() == []
        clean(snapshots)
        for one in snapshots.list_snapshots():  # the last steps only remember what was read
            assert not snapshots.diff(one)
            assert one.stats.left_out == ()
            snapshots.delete_snapshot(one)
    assert step > 1
    assert not snapshots.diff(kept)


def test_a_disk_that_is_full_for_packs_loses_nothing(workspace: Path, base_dir: Path) -> None:
    script = """
    import errno, resource, sys
    from pathlib import Path
    from agentd.errors import SnapshotError
    from agentd_snapshots import Snapshots
    s = Snapshots(sys.argv[1], sys.argv[2])
    kept = s.snapshot()
    (Path(sys.argv[1]) / "big").write_bytes(bytes(range(256)) * 40_000)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
    try:
        s.snapshot()
    except SnapshotError as exc:
        assert exc.errno == errno.EFBIG, exc
        assert "could not take a snapshot: File too large; nothing was lost: make room" in str(exc), exc
    else:
        raise SystemExit("it worked")
    assert s.list_snapshots() == [kept]
    assert s.verify() == []
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    s.snapshot()
    """
    fill(workspace)
    run(["-c", textwrap.dedent(script), str(workspace), str(base_dir)])
    clean(Snapshots(workspace, base_dir))


def test_a_restore_onto_a_full_disk_leaves_the_workspace_as_it_was(tmp_path: Path) -> None:
    script = """
    import errno, os, sys
    from pathlib import Path
    from agentd.errors import SnapshotError
    from agentd_snapshots import Snapshots
    from snapshot_trees import describe
    ws = Path(sys.argv[1]) / "disk" / "ws"
    ws.mkdir()
    s = Snapshots(ws, Path(sys.argv[1]) / "base")
    for n in range(8):
        (ws / f"f{n}").write_bytes(os.urandom(100_000))
    kept = s.snapshot()
    for n in range(8):
        (ws / f"f{n}").unlink()
    (ws / "other").write_bytes(os.urandom(700_000))
    before = describe(ws)
    try:
        s.restore(kept)
    except SnapshotError as exc:
        assert exc.errno == errno.ENOSPC, exc
    else:
        raise SystemExit("it worked")
    assert describe(ws) == before
    assert os.listdir(ws) == ["other"]
    (ws / "other").unlink()
    s.restore(kept)
    assert not s.diff(kept)
    """
    disk = tmp_path / "disk"
    disk.mkdir()
    unshare = shutil.which("unshare")
    inner = ["sh", "-c", 'mount -t tmpfs -o size=1m none "$1" || exit 77; shift; exec "$@"', "sh", str(disk)]
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    if unshare is None or subprocess.run([unshare, *user, "--mount", *inner, "true"]).returncode:
        pytest.skip("needs a mount namespace of its own: run as root or allow user namespaces")
    command = [
        unshare,
        *user,
        "--mount",
        *inner,
        sys.executable,
        "-c",
        textwrap.dedent(script),
        str(tmp_path),
    ]
    run(command[1:], executable=command[0])


def run(arguments: list[str], *, executable: str = sys.executable) -> None:
    done = subprocess.run(
        [executable, *arguments],
        env={**os.environ, "PYTHONPATH": str(SUPPORT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr

"""What hosts leave on a node when all of their fleet is lost at once is removed by the next host that comes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from agentd_ray import host_folder
from agentd_ray.host_folder import HostFolder

HOLD = """
import sys
from agentd_ray.host_folder import HostFolder
folder = HostFolder(sys.argv[1], fleet="old", node="n" * 20, name=sys.argv[2])
folder.make()
(folder.path / "work").mkdir()
(folder.path / "work" / "file").write_text("kept")
print("made", flush=True)
sys.stdin.read()
"""


def host(base: Path, name: str) -> subprocess.Popen[str]:
    """Start a process that has a folder until its input ends."""
    command = [sys.executable, "-c", HOLD, str(base), name]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "made\n"
    return process


def test_a_host_removes_what_dead_ones_have_left_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "agentd-fleet-mine").mkdir()  # of another kind
    (tmp_path / "aim").mkdir()
    (tmp_path / "agentd-fleet-a-b-link").symlink_to(tmp_path / "aim")
    (tmp_path / "agentd-fleet-a-b-file").write_text("")
    with host(tmp_path, "dead") as dead, host(tmp_path, "alive") as alive:
        dead.kill()
        dead.wait()
        mine = HostFolder(str(tmp_path), fleet="new", node="m" * 20, name="1")
        mine.make()
        before = set(tmp_path.iterdir())
        mine.clear(())
        assert set(tmp_path.iterdir()) == before  # too young: who has made it may be about to hold it

        monkeypatch.setattr(host_folder, "_MADE_S", -1)
        mine.clear(())
        gone = tmp_path / f"agentd-fleet-old-{'n' * 16}-dead"
        assert before - set(tmp_path.iterdir()) == {gone}
        assert (tmp_path / f"agentd-fleet-old-{'n' * 16}-alive" / "work" / "file").read_text() == "kept"
        alive.communicate()
    mine.remove()
    assert not mine.path.exists()


def test_what_a_lost_host_of_the_same_fleet_has_left_goes_at_once(tmp_path: Path) -> None:
    lost = HostFolder(str(tmp_path), fleet="f", node="n", name="lost")
    lost.path.mkdir()
    mine = HostFolder(str(tmp_path), fleet="f", node="n", name="mine")
    mine.make()
    mine.clear(["lost"])
    assert list(tmp_path.iterdir()) == [mine.path]
    mine.remove()

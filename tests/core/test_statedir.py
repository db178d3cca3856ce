"""The user's state folder, and who can enter it."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from agentd.statedir import make_private, user_state_dir
from agentd_cli import checks
from agentd_daemon.state import StateFolder, default_state_dir
from agentd_snapshots import Snapshots


def test_what_agentd_makes_there_is_private_and_doctor_agrees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "not" / "yet"))
    (tmp_path / "work").mkdir()
    Snapshots(tmp_path / "work").snapshot("first")
    with StateFolder(default_state_dir(["agents.yaml"])):
        made = [tmp_path / "not", *(path for path in (tmp_path / "not").rglob("*") if path.is_dir())]
    assert user_state_dir() / "snapshots" in made
    assert {oct(stat.S_IMODE(path.stat().st_mode)) for path in made} == {"0o700"}
    assert {check.state for check in checks._state()} == {"ok", "info"}
    (user_state_dir() / "snapshots").chmod(0o755)
    assert next(check.detail for check in checks._state() if check.state == "failed").endswith(
        f"chmod 700 {user_state_dir() / 'snapshots'}"
    )


@pytest.mark.parametrize("given", ["", "relative"])
def test_without_an_absolute_place_it_is_below_the_home(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", given)
    assert user_state_dir() == Path.home() / ".local" / "state" / "agentd"


def test_folders_that_are_there_keep_their_mode_and_a_file_is_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    make_private(tmp_path / "open" / "a" / "b")
    assert stat.S_IMODE((tmp_path / "open").stat().st_mode) == 0o755
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        make_private(tmp_path / "file" / "x")

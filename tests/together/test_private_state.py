"""What the distributions keep in the user's state folder is private, and `agentd doctor` agrees."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from agentd.statedir import user_state_dir
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

"""The user's state folder, and who can enter it."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest
from agentd.statedir import make_private, user_state_dir


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


def test_what_tests_leave_there_is_not_in_the_folder_of_the_person_who_runs_them() -> None:
    ask = "from agentd.statedir import user_state_dir; print(user_state_dir())"
    started = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    assert user_state_dir() == Path(started.stdout.strip())
    assert not user_state_dir().is_relative_to(Path.home())
    assert stat.S_IMODE(user_state_dir().parent.stat().st_mode) == 0o700

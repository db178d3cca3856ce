"""The user's state folder, and who can enter it."""

from __future__ import annotations

import stat
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

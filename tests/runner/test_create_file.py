"""Creating files beneath the workspace, at the level of the runner's function."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest
from agentd_runner.inside.files import PathRefused, create_file
from hypothesis import given, strategies as st


def create(workspace: Path, path: str, content: bytes = b"text", cwd: str = "") -> str:
    return create_file(str(workspace), str(workspace / cwd), path, content)


def test_parents_are_made_and_the_relative_path_is_returned(tmp_path: Path) -> None:
    assert create(tmp_path, "a/b/c.txt") == "a/b/c.txt"
    assert (tmp_path / "a/b/c.txt").read_bytes() == b"text"


def test_the_path_is_relative_to_the_current_directory(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    assert create(tmp_path, "x.txt", cwd="sub") == "sub/x.txt"
    assert (tmp_path / "sub/x.txt").exists()


@pytest.mark.parametrize("path", ["/etc/x", "../x", "a/../../x", "a/..", "", "a/", "a\0b", "."])
def test_a_path_that_leaves_or_names_no_file_is_refused(tmp_path: Path, path: str) -> None:
    inside = tmp_path / "workspace"
    inside.mkdir()
    with pytest.raises(PathRefused):
        create(inside, path)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["workspace"]


def test_a_symlink_out_is_refused_and_its_target_untouched(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    (inside / "absolute").symlink_to(outside)
    (inside / "relative").symlink_to("../out")
    (outside / "kept").write_text("old")
    (inside / "file").symlink_to(outside / "kept")
    for path in ("absolute/x", "relative/x", "file"):
        with pytest.raises(PathRefused):
            create(inside, path)
    assert [p.name for p in outside.iterdir()] == ["kept"]
    assert (outside / "kept").read_text() == "old"


def test_a_symlink_that_stays_inside_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/link").symlink_to("../real")
    create(tmp_path, "sub/link/x.txt")
    assert (tmp_path / "real/x.txt").exists()


def test_a_symlink_loop_ends(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(PathRefused, match="too many"):
        create(tmp_path, "loop/x")


def test_a_fifo_a_directory_and_a_device_are_errors_not_hangs(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "dir").mkdir()
    with pytest.raises(PathRefused, match="a FIFO"):
        create(tmp_path, "fifo")
    with pytest.raises(PathRefused, match="a directory"):
        create(tmp_path, "dir")
    with pytest.raises(PathRefused, match="no directory"):
        create(tmp_path, "fifo/x")


def test_a_shebang_makes_it_executable_and_an_existing_mode_is_kept(tmp_path: Path) -> None:
    create(tmp_path, "run", b"#!/bin/sh\n")
    assert (tmp_path / "run").stat().st_mode & 0o111
    secret = tmp_path / "secret"
    secret.write_text("a")
    secret.chmod(0o600)
    create(tmp_path, "secret", b"b")
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600


def test_a_hard_link_is_replaced_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("old")
    os.link(tmp_path / "one", tmp_path / "two")
    create(tmp_path, "two", b"new")
    assert (tmp_path / "one").read_text() == "old"


def test_a_directory_swapped_for_a_symlink_meanwhile_never_leads_out(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    (inside / "real").mkdir()
    (inside / "evil").symlink_to(outside)
    done = threading.Event()

    def swap() -> None:
        while not done.is_set():
            for name in ("real", "evil"):
                try:
                    os.rename(inside / name, inside / "d")
                    os.rename(inside / "d", inside / name)
                except OSError:
                    pass

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        for number in range(300):
            try:
                create(inside, f"d/{number}")
            except (PathRefused, OSError):
                pass
    finally:
        done.set()
        swapper.join()
    assert list(outside.iterdir()) == []


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x").write_text("old")

    def full(_descriptor: int, _data: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("agentd_runner.inside.files.os.write", full)
    with pytest.raises(OSError, match="No space"):
        create(tmp_path, "x", b"new")
    monkeypatch.undo()
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("x", "old")]


NAMES = st.text(alphabet=st.sampled_from("ab./\\~$ é\n\t-"), max_size=12)


@given(NAMES)
def test_any_path_lands_inside_or_is_refused(path: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        outside = Path(name)
        inside = outside / "in"
        inside.mkdir()
        try:
            where = create(inside, path)
        except (PathRefused, OSError):
            pass
        else:
            assert (inside / where).read_bytes() == b"text"
        assert [p.name for p in outside.iterdir()] == ["in"]

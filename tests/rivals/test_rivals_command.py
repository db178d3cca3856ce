"""What the command of `make bench-rivals` keeps and says when it cannot go on. Nothing is measured here."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rivals import cli
from rivals.cli import main
from rivals.tables import Report

JUPYTER = ["--only", "jupyter", "fresh"]


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Have the run do what it is given; nothing is installed."""

    def given(measured: Any) -> None:
        monkeypatch.setattr(cli, "_measure", lambda report, *_: measured(report))

    monkeypatch.setattr(cli, "_installed", lambda report: {})
    return given


def whole(report: Report) -> bool:
    report.add("jupyter", "fresh", {"figures": {"fresh_ms": 2.0}})
    return True


def test_ctrl_c_while_environments_are_made_says_that_they_are_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: Any) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "python_of", stop)
    assert main(JUPYTER) == 130
    assert "the same command goes on" in capsys.readouterr().err


def test_a_run_without_any_figure_leaves_an_older_file(measure: Any, tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    file.write_text("older")
    for is_whole, code in ((False, 130), (True, 1)):
        measure(lambda report, is_whole=is_whole: is_whole)
        assert main([*JUPYTER, "--json", str(file)]) == code
    assert file.read_text() == "older"


def test_a_part_of_a_run_is_kept_out_of_the_documentation_however_its_folder_is_written(
    measure: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measure(lambda report: pytest.fail("it measures"))
    monkeypatch.chdir(cli.ROOT)
    assert main([*JUPYTER, "--write", "docs"]) == 2
    assert "--write: needs a full run" in capsys.readouterr().err
    assert main(["--rounds", "0"]) == 2
    assert "--rounds: must be 1 or more" in capsys.readouterr().err


def test_pages_that_cannot_be_written_are_told_before_anything_is_measured(
    measure: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measure(lambda report: pytest.fail("it measures"))
    page = tmp_path / "performance.md"
    assert main([*JUPYTER, "--write", str(tmp_path)]) == 2
    assert f"--write: {page} must be there, and writable" in capsys.readouterr().err
    page.write_text("<!-- rivals -->")
    assert main([*JUPYTER, "--write", str(tmp_path)]) == 2
    assert f"--write: {page} has no <!-- rivals --> ... <!-- /rivals -->" in capsys.readouterr().err


def test_a_file_of_figures_that_cannot_be_written_is_written_elsewhere(
    measure: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "figures.json"
    file.symlink_to("/dev/full")
    measure(whole)
    assert main([*JUPYTER, "--json", str(file)]) == 1
    said = capsys.readouterr().err
    assert f"{file} could not be written: No space left on device" in said
    elsewhere = Path(said.split()[-1])
    assert "fresh_ms" in elsewhere.read_text()
    elsewhere.unlink()

"""What becomes of a run that is kept: it is lost or counted twice only if somebody says so. Nothing runs here."""

from __future__ import annotations

import errno
import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from endurance import cli
from endurance.recording import Record
from endurance.report import as_json


@pytest.fixture
def no_run(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Nothing runs; what would have is noted."""
    begun: list[str] = []

    class NoRun:
        def __init__(self, folder: Path, record: Record, state: Path) -> None:
            self.run = lambda: begun.append(str(folder))

    monkeypatch.setattr(cli, "EnduranceRun", NoRun)
    return begun


def kept(folder: Path, **more: Any) -> Record:
    """A run that was interrupted after an hour."""
    record = Record(hours=6, seed=1, works=["rewinds"], spent_s=3600, starts=1, **more)
    record.samples = [(60.0 * n, "daemon", "1@2", {"fds": 43.0}) for n in range(60)]
    folder.mkdir(exist_ok=True)
    record.save(folder / "run.json")
    return record


def test_a_run_is_forgotten_only_if_that_is_said_and_nothing_else_in_its_folder_goes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], no_run: list[str]
) -> None:
    folder, state = tmp_path / "mine", tmp_path / "mine" / "run.json"
    kept(folder)
    (folder / "thesis.txt").write_text("years")
    work = ["--folder", str(folder), "--only", "jobs"]
    assert cli.main(work) == 2
    said = capsys.readouterr().err
    assert f"{state} has 60 min of an interrupted run of other works: --fresh forgets it" in said
    state.write_text("{")
    assert cli.main(work) == 2
    assert "is not of this version: --fresh forgets it" in capsys.readouterr().err
    for hours in ("0", "nan"):
        assert cli.main([*work, "--fresh", "--hours", hours]) == 2
    assert no_run == []
    (folder / "world").mkdir()
    cli.main([*work, "--fresh"])
    assert no_run == [str(folder / "world")]
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]


def test_a_run_is_not_added_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, file, copy = tmp_path / "run", tmp_path / "a.json", tmp_path / "b.json"
    record = kept(folder)
    for path in (file, copy):
        path.write_text(json.dumps(as_json(record, [])))
    assert cli.main(["--report", "--folder", str(folder), "--add", str(file)]) == 2
    assert f"--add: {file} is of the same run as the run itself" in capsys.readouterr().err
    record.seed = 2
    record.save(folder / "run.json")
    assert cli.main(["--report", "--folder", str(folder), "--add", str(file), str(copy)]) == 2
    assert f"--add: {copy} is of the same run as {file}" in capsys.readouterr().err
    assert cli.main(["--report", "--folder", str(folder), "--add", str(file)]) == 0
    copy.write_text(copy.read_text().replace('"fds"', '"fans"'))
    assert cli.main(["--minutes", "1", "--folder", str(folder), "--add", str(copy)]) == 2
    assert f"{copy} has figures that this version does not know: KeyError('fans')" in capsys.readouterr().err
    file.write_text(file.read_text()[:-30])
    assert cli.main(["--report", "--folder", str(folder), "--add", str(file)]) == 2
    assert f"{file} has no figures of a run" in capsys.readouterr().err


def test_a_full_disk_is_told_and_the_report_is_there_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, figures = tmp_path / "run", tmp_path / "figures.json"
    kept(folder)
    figures.symlink_to("/dev/full")
    assert cli.main(["--report", "--folder", str(folder), "--json", str(figures)]) == 1
    said = capsys.readouterr()
    assert "daemon  descriptors" in said.out
    assert f"{figures} could not be written: No space left on device" in said.err
    elsewhere = Path(said.err.split()[-1])
    assert json.loads(elsewhere.read_text())["spent_s"] == 3600
    elsewhere.unlink()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "run.fresh")

    monkeypatch.setattr(cli.EnduranceRun, "run", full)
    assert cli.main(["--folder", str(folder), "--only", "rewinds"]) == 1
    assert "make room: the same command goes on" in capsys.readouterr().err

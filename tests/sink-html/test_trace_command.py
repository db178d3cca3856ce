"""`agentd trace` makes a page of what the jsonl sink kept."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from agentd.events import CodeExecution, RunEnd, RunStart
from agentd_cli.main import run_command_line
from agentd_sink_jsonl.jsonl import JsonlSink


def kept(folder: Path, task: str = "count") -> Path:
    sink = JsonlSink(folder)
    sink.emit(RunStart(task=task, model="m"))
    sink.emit(CodeExecution(code="ls", output="a-file", status="completed", target="bash", wall_s=0.5))
    sink.emit(RunEnd(text="It is done."))
    return sink.paths[0]


def trace(*arguments: object, code: int = 0) -> None:
    assert run_command_line(["trace", *map(str, arguments)]) == code


def test_the_page_lies_beside_the_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = kept(tmp_path)
    trace(path)
    written = Path(capsys.readouterr().out.strip())
    assert written == path.with_suffix(".html")
    text = written.read_text()
    assert "It is done." in text
    assert "a-file" in text


def test_of_a_folder_the_newest_is_taken(tmp_path: Path) -> None:
    old, new = kept(tmp_path, "the-old-one"), kept(tmp_path, "the-new-one")
    os.utime(old, (1, 1))
    trace(tmp_path, "-o", tmp_path / "page.html")
    assert "the-new-one" in (tmp_path / "page.html").read_text()
    assert new.exists()


def test_lines_that_are_broken_are_told_by_number_and_the_others_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = kept(tmp_path)
    first, *rest = path.read_text().splitlines(keepends=True)
    path.write_text(first + "no json\n[1]\n" + "".join(rest) + '{"type": "text_del')
    trace(path)
    assert "3 lines are no JSON object and are left out (line 2, 3, 6)" in capsys.readouterr().err
    assert "It is done." in path.with_suffix(".html").read_text()


def test_lines_without_a_time_as_run_json_prints_them_are_shown_too(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"type": "run_start", "task": "x"}\n{"type": "run_end", "text": "The end."}\n')
    trace(path)
    text = path.with_suffix(".html").read_text()
    assert "The end." in text
    assert "<svg" not in text


def test_a_file_of_something_else_is_an_error_that_says_what_it_should_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("hello\n")
    trace(path, code=2)
    assert "agentd run --log" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    trace(tmp_path / "empty", code=2)
    assert "no .jsonl file" in capsys.readouterr().err

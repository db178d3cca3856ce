"""`agentd trace` makes a page of what the jsonl sink kept."""

from __future__ import annotations

import os
import re
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
    assert "3 lines are no JSON object and are left out (lines 2, 3, 6)" in capsys.readouterr().err
    assert "It is done." in path.with_suffix(".html").read_text()


def test_one_broken_line_is_told_in_the_singular(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = kept(tmp_path)
    path.write_text(path.read_text() + "half a li")
    trace(path)
    assert "1 line is no JSON object and is left out (line 4)" in capsys.readouterr().err


def test_a_byte_order_mark_before_a_line_is_no_part_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, mark = kept(tmp_path), b"\xef\xbb\xbf"
    path.write_bytes((mark + path.read_bytes()) * 2)  # and of two such files that were put together
    trace(path)
    assert not capsys.readouterr().err
    assert path.with_suffix(".html").read_text().count('<section class="run"') == 2


def test_the_page_has_all_runs_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "all.jsonl"
    path.write_bytes(b"".join(kept(tmp_path, task).read_bytes() for task in ("the-first", "the-second")))
    trace(path)
    text = path.with_suffix(".html").read_text()
    assert text.count('<section class="run"') == 2
    assert text.index("<h1>the-first") < text.index("<h1>the-second")
    assert not capsys.readouterr().err


def test_runs_that_went_on_at_the_same_time_are_told_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "all.jsonl"
    first, second = (kept(tmp_path, task).read_text().splitlines(keepends=True) for task in "ab")
    path.write_text(first[0] + second[0] + second[1] + first[1] + first[2] + second[2])
    trace(path)
    assert capsys.readouterr().err == ""
    page = path.with_suffix(".html").read_text()
    path.write_text("".join(first + second))
    trace(path)
    assert page == path.with_suffix(".html").read_text()


def test_runs_without_a_name_that_are_mixed_up_in_a_file_are_told_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "all.jsonl"
    first, second = (
        re.sub('"run": ?"[0-9a-f]+", ?', "", kept(tmp_path, task).read_text()).splitlines(keepends=True)
        for task in "ab"
    )
    path.write_text(first[0] + second[0] + first[1] + first[2] + second[1] + second[2])
    trace(path)
    told = capsys.readouterr().err
    assert "the start of run 3 is missing" in told
    assert "or mixed up, as where an older agentd has written them" in told
    path.write_text("".join(first[1:]))
    trace(path)
    assert "the start of run 1 is missing" in capsys.readouterr().err


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


def test_a_page_goes_through_a_link_to_its_file(tmp_path: Path) -> None:
    path, link, file = kept(tmp_path / "log"), tmp_path / "page.html", tmp_path / "elsewhere.html"
    link.symlink_to(file.name)  # to a file that is not there yet
    trace(path, "-o", link)
    file.write_text("an old page")
    trace(path, "-o", link)
    assert link.is_symlink()
    assert "It is done." in file.read_text()
    assert {each.name for each in tmp_path.iterdir()} == {"log", link.name, file.name}


@pytest.mark.parametrize("by_link", [False, True])
def test_a_page_is_written_into_a_fifo(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], by_link: bool
) -> None:
    path, fifo, to = kept(tmp_path), tmp_path / "fifo", tmp_path / "fifo"
    os.mkfifo(fifo)
    if by_link:
        to = tmp_path / "page.html"
        to.symlink_to(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        trace(path, "-o", to)
        text = os.read(reader, 65_536)
    finally:
        os.close(reader)
    assert b"It is done." in text
    assert (to.is_fifo(), to.is_symlink()) == (True, by_link)
    assert not capfd.readouterr().out  # no file's name: there is no file
    trace(path, "-o", to, "--open", code=2)
    assert "--open needs a page in a file" in capfd.readouterr().err


def test_a_device_that_takes_no_page_is_an_error_that_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open("/dev/full", "wb") as device:  # by its descriptor: a command that replaces it can do no harm
        trace(kept(tmp_path), "-o", f"/dev/fd/{device.fileno()}", code=2)
    assert "No space left on device" in capsys.readouterr().err


def test_a_page_is_added_to_what_an_open_file_of_the_process_has(tmp_path: Path) -> None:
    path, file = kept(tmp_path), tmp_path / "all.html"
    file.write_text("before\n")
    with file.open("a") as opened:
        trace(path, "-o", f"/dev/fd/{opened.fileno()}")
    text = file.read_text()
    assert text.startswith("before\n<!doctype html>")
    assert "It is done." in text


@pytest.mark.parametrize("kind", ["itself", "link", "hard link", "default"])
def test_the_log_is_never_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    path, other = kept(tmp_path), tmp_path / "page.html"
    before = path.read_bytes()
    if kind == "link":
        other.symlink_to(path)
    elif kind == "hard link":
        other.hardlink_to(path)
    elif kind == "default":
        path = path.rename(other)
    to = [] if kind == "default" else ["-o", path if kind == "itself" else other]
    trace(path, *to, code=2)
    assert "is the log itself; name another file" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_a_page_without_a_place_or_a_log_that_cannot_be_read_is_an_error_that_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, loop = kept(tmp_path), tmp_path / "loop.html"
    loop.symlink_to(loop.name)
    trace(path, "-o", "", code=2)
    assert "--output is empty; name a file" in capsys.readouterr().err
    trace(path, "-o", loop, code=2)
    assert f"cannot write {loop}" in capsys.readouterr().err
    trace("/proc/self/mem", "-o", tmp_path / "page.html", code=2)  # whose first bytes are no memory
    assert "cannot read /proc/self/mem: Input/output error" in capsys.readouterr().err


def test_the_name_of_a_page_may_be_as_long_as_names_can_be(tmp_path: Path) -> None:
    page = tmp_path / ("x" * 250 + ".html")
    trace(kept(tmp_path), "-o", page)
    assert "It is done." in page.read_text()

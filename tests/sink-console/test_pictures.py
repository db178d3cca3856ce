"""Pictures on a terminal: drawn where it can, a link elsewhere, a path where there is no terminal."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
from pathlib import Path

import pytest
from agentd.events import CodeStart, Picture, RunStart
from agentd_sink_console.console import ConsoleSink
from agentd_sink_console.pictures import protocol_of, shown_on_terminal
from agentd_sink_console.terminal import TerminalSink, sink_for

DATA = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40
KITTY = {"TERM": "xterm-kitty"}
ITERM = {"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}
PLAIN = {"TERM": "xterm-256color"}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(folder: Path, data: bytes = DATA, ending: str = "png", name: str = "plot.png") -> Picture:
    path = folder / f"{hashlib.sha256(DATA).hexdigest()[:32]}.{ending}"
    path.write_bytes(data)
    mime_type = {"png": "image/png", "jpg": "image/jpeg"}[ending]
    return Picture(
        name=name, path=str(path), mime_type=mime_type, width=640, height=480, size_bytes=len(data)
    )


@pytest.mark.parametrize(
    ("environ", "protocol"),
    [
        (KITTY, "kitty"),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM_PROGRAM": "ghostty"}, "kitty"),
        (ITERM, "iterm2"),
        ({"TERM_PROGRAM": "WezTerm"}, "iterm2"),
        ({"LC_TERMINAL": "iTerm2"}, "iterm2"),
        ({**KITTY, "TMUX": "/tmp/tmux"}, ""),
        ({**ITERM, "TERM": "screen-256color"}, ""),
        (PLAIN, ""),
        ({}, ""),
    ],
)
def test_what_a_terminal_can_is_told_by_its_variables(environ: dict[str, str], protocol: str) -> None:
    assert protocol_of(environ) == protocol


def test_kitty_gets_the_whole_picture_in_pieces_that_it_takes(tmp_path: Path) -> None:
    text = shown_on_terminal(shown(tmp_path), 80, KITTY)
    pieces = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", text)
    assert base64.b64decode("".join(piece for _, piece in pieces)) == DATA
    assert pieces[0][0] == "a=T,f=100,q=2,c=60,m=1"
    assert [head for head, _ in pieces[1:]] == ["m=1"] * (len(pieces) - 2) + ["m=0"]
    assert max(len(piece) for _, piece in pieces) <= 4096


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_iterm2_gets_the_whole_picture(ending: str, tmp_path: Path) -> None:
    text = shown_on_terminal(shown(tmp_path, ending=ending), 40, ITERM)
    found = re.fullmatch(
        r"\x1b]1337;File=inline=1;size=(\d+);width=36;preserveAspectRatio=1:(.*)\x07\n", text
    )
    assert found is not None
    assert (int(found[1]), base64.b64decode(found[2])) == (len(DATA), DATA)


def test_other_terminals_get_a_link_and_so_do_formats_that_kitty_does_not_take(tmp_path: Path) -> None:
    picture, photo = shown(tmp_path), shown(tmp_path, ending="jpg")
    link = f"    \x1b]8;;{Path(picture.path).as_uri()}\x1b\\{picture.path}\x1b]8;;\x1b\\\n"
    assert shown_on_terminal(picture, 80, PLAIN) == link
    assert shown_on_terminal(photo, 80, KITTY).startswith("    \x1b]8;;file://")


@pytest.mark.parametrize("plant", ["other content", "link", "pipe", "folder", "nothing", "too large"])
def test_what_code_puts_in_the_place_of_the_file_is_not_drawn(plant: str, tmp_path: Path) -> None:
    picture = shown(tmp_path)
    path = Path(picture.path)
    path.unlink()
    if plant == "other content":
        path.write_bytes(DATA + b"x")
    elif plant == "link":
        (tmp_path / "real").write_bytes(DATA)
        path.symlink_to(tmp_path / "real")
    elif plant == "pipe":
        os.mkfifo(path)
    elif plant == "folder":
        path.mkdir()
    elif plant == "too large":
        with open(path, "wb") as file:
            file.truncate(9 * 1024 * 1024)
    for environ in (KITTY, ITERM):
        assert shown_on_terminal(picture, 80, environ).startswith("    \x1b]8;;file://")


@pytest.mark.parametrize("sink_class", [ConsoleSink, TerminalSink])
@pytest.mark.parametrize(
    ("environ", "mark"), [(KITTY, "\x1b_Ga=T"), (ITERM, "\x1b]1337;File="), (PLAIN, "\x1b]8;;file")]
)
def test_a_sink_on_a_terminal_draws_it_in_the_order_of_the_events(
    sink_class: type[ConsoleSink],
    environ: dict[str, str],
    mark: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("TERM", "TERM_PROGRAM", "LC_TERMINAL", "KITTY_WINDOW_ID", "TMUX", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    stream = Terminal()
    sink = (
        sink_class(stream, width=80)
        if sink_class is TerminalSink
        else sink_class(stream, color=True, width=80)
    )
    sink.emit(RunStart(model="m"))
    sink.emit(CodeStart(id="1", code="show()", target="python"))
    sink.emit(shown(tmp_path))
    sink.close()
    text = stream.getvalue()
    assert text.index("show") < text.index("picture plot.png · 640 x 480 · 10 KiB") < text.index(mark)
    assert ("\x1b_G" in text) == (environ is KITTY)
    if environ is PLAIN:
        assert text.count(str(tmp_path)) == 2  # the link's address and its text


def test_without_a_terminal_a_picture_is_a_line_with_its_path_and_no_escape(tmp_path: Path) -> None:
    stream = io.StringIO()
    sink = sink_for(stream)
    picture = shown(tmp_path, name="plot\x1b[31m\n.png")
    sink.emit(picture)
    sink.close()
    assert stream.getvalue() == f"  · picture plot .png · 640 x 480 · 10 KiB · {picture.path}\n"


def test_a_picture_without_a_file_is_a_line_alone() -> None:
    picture = Picture(name="x", path="", mime_type="image/png", width=1, height=2, size_bytes=3)
    stream = io.StringIO()
    ConsoleSink(stream).emit(picture)
    assert stream.getvalue() == "  · picture x · 1 x 2 · 1 KiB\n"
    assert shown_on_terminal(picture, 80, KITTY) == ""

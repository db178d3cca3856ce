"""The console sink on a terminal: what a person sees, while it happens and at the end."""

from __future__ import annotations

import io
import os
import pty
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyte
import pytest
from agentd.events import (
    CodeDelta,
    CodeExecution,
    CodeOutput,
    CodeStart,
    Event,
    ReasoningDelta,
    RunEnd,
    RunStart,
    TextDelta,
    ToolCall,
    TurnEnd,
)
from agentd_sink_console import plugin
from agentd_sink_console.console import ConsoleSink
from agentd_sink_console.prose import ProsePieces
from agentd_sink_console.terminal import TerminalPainter, TerminalSink, sink_for
from agentd_testing import EventSinkContract
from hypothesis import given, strategies as st

WIDTHS = (40, 80, 200)
SENTENCE = (
    "I will **look** at each of the files, one after the other, and count the words that `List<int>` has."
)
CODE = "for number in range(3):\n    print('a line that does not fit into forty columns', number)\n\nprint('done')\n"
LINE = "line {} of what the code prints has some more words than fit"


class Screen:
    """A pseudo-terminal in front of a sink, and what stands on it."""

    def __init__(self, width: int, height: int, **options: Any) -> None:
        self._master, slave = pty.openpty()
        os.set_blocking(self._master, False)
        self._file = open(slave, "w")  # noqa: SIM115 - `close` does
        self._screen = pyte.HistoryScreen(width, height, history=10_000)
        self._stream = pyte.ByteStream(self._screen)
        self._width = width
        self.sink = TerminalSink(self._file, width=width, **options)

    def show(self, *events: Event) -> None:
        for event in events:
            self.sink.emit(event)
            self._read()

    def _read(self) -> None:
        try:
            while data := os.read(self._master, 65536):
                self._stream.feed(data.replace(b"\n", b"\r\n"))
        except BlockingIOError:
            pass

    def rows(self) -> list[str]:
        self._read()
        above = ["".join(row[n].data for n in range(self._width)) for row in self._screen.history.top]
        return [row.rstrip() for row in [*above, *self._screen.display]]

    def text(self) -> str:
        return "\n".join(self.rows())

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + 30
        while text not in self.text():
            assert time.monotonic() < deadline, f"{text!r} is not shown; what is:\n{self.text()}"
            time.sleep(0.02)

    def close(self) -> None:
        self.sink.close()
        self._file.close()
        os.close(self._master)


@pytest.fixture
def screen() -> Iterator[Callable[..., Screen]]:
    made: list[Screen] = []

    def make(width: int = 80, height: int = 24, **options: Any) -> Screen:
        made.append(Screen(width, height, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def deltas(text: str, kind: Callable[[str], Event], size: int = 5) -> list[Event]:
    return [kind(text[at : at + size]) for at in range(0, len(text), size)]


def writing(id: str, text: str) -> list[Event]:
    return deltas(text, lambda piece: CodeDelta(id=id, text=piece, target="python"))


def a_run() -> list[Event]:
    return [
        RunStart(task="t", model="m-1"),
        *deltas(f"# Plan\n\n{SENTENCE}\n\n1. first\n2. second\n\n", TextDelta),
        *writing("a", CODE + "``"),
        CodeStart(id="a", code=CODE, target="python"),
        CodeOutput(id="a", text="".join(LINE.format(n) + "\n" for n in range(50))),
        *deltas("".join(f"\r{n} %" for n in range(100)), lambda text: CodeOutput(id="a", text=text)),
        CodeExecution(id="a", code=CODE, output="", status="completed"),
        TurnEnd(turn=1),
        TextDelta("Done, all of it."),
        RunEnd(text="Done.", turns=2),
    ]


@pytest.mark.parametrize("width", WIDTHS)
def test_a_run_is_wrapped_at_words_rendered_and_folded(width: int, screen: Callable[..., Screen]) -> None:
    seen = screen(width)
    seen.show(*a_run())
    rows = seen.rows()
    text = "\n".join(rows)
    assert "**" not in text
    assert "List<int>" in text
    start = next(n for n, row in enumerate(rows) if "I will look" in row)
    paragraph = rows[start : rows.index("", start)]
    assert " ".join(paragraph) == SENTENCE.replace("*", "").replace("`", "")  # no word is broken
    assert "│ for number in range(3):" in text
    assert rows[next(n for n, row in enumerate(rows) if row.startswith("╭"))].endswith("╮")
    output = [row for row in rows if row.startswith("  │")]
    words = " ".join(row.removeprefix("  │ ") for row in output)
    assert LINE.format(0) in words
    assert LINE.format(14) in words
    assert LINE.format(15) not in words
    assert "… 31 more lines …" in words
    assert f"{LINE.format(46)} {LINE.format(47)} {LINE.format(48)} {LINE.format(49)} 99 %" in words
    assert words.count("%") == 1
    assert "Done, all of it." in text
    assert not [row for row in rows if "waiting" in row or "writes" in row or "runs" in row]
    assert text.index("Done, all") < text.index("2 turns")


def test_what_is_awaited_is_shown_with_a_clock_and_goes_away(screen: Callable[..., Screen]) -> None:
    seen = screen()
    seen.show(RunStart(model="m-1"))
    seen.wait_for("waiting for m-1 · 1 s")
    seen.show(TextDelta("half a sen"))
    seen.wait_for("half a sen")
    seen.wait_for("the model writes")
    seen.show(CodeStart(id="a", code="sleep 9", target="bash"), CodeOutput(id="a", text="10 %\r20 %"))
    seen.wait_for("  │ 20 %")
    seen.wait_for("block 1 runs · 1 s")
    seen.show(CodeExecution(id="a", code="sleep 9", output="", status="completed"), TurnEnd())
    seen.wait_for("waiting for m-1 · 1 s")
    seen.show(RunEnd(turns=1))
    assert "waiting" not in seen.text()


def test_code_is_shown_while_it_is_written(screen: Callable[..., Screen]) -> None:
    seen = screen()
    seen.show(RunStart(model="m"), *writing("a", "print(1)\nprint(2"))
    assert "╭─ 1 · python ─" in seen.text()
    assert "│ print(1)" in seen.text()
    seen.wait_for("the model writes code")
    seen.wait_for("│ print(2")
    seen.show(*writing("a", ")\n``"), CodeStart(id="a", code="print(1)\nprint(2)\n", target="python"))
    rows = seen.rows()
    assert sum("print(1)" in row for row in rows) == 1
    assert sum("print(2)" in row for row in rows) == 1
    assert not [row for row in rows if "`" in row]
    assert sum(row.startswith("╰") for row in rows) == 1


def test_what_another_block_prints_stands_behind_the_frame_that_is_open(
    screen: Callable[..., Screen],
) -> None:
    seen = screen()
    seen.show(
        CodeStart(id="a", code="first", target="bash"),
        *writing("b", "second\n"),
        CodeOutput(id="a", text="from the first\n"),
        ToolCall(id="t", name="add", code_id="a"),
        *writing("b", "more\n"),
        CodeStart(id="b", code="second\nmore\n", target="python"),
        CodeExecution(id="a", code="first", output="", status="completed"),
        CodeExecution(id="b", code="second", output="", status="failed", exit_code=3),
        RunEnd(),
    )
    text = seen.text()
    order = ["│ second", "│ more", "from the first", "add", "1 └ ok", "2 └ exit 3"]
    assert [text.index(part) for part in order] == sorted(text.index(part) for part in order)


def test_a_block_that_never_starts_has_its_frame_and_its_reason(screen: Callable[..., Screen]) -> None:
    seen = screen()
    seen.show(
        *writing("a", "puts 1\n"),
        CodeExecution(id="a", code="puts 1\n", output="ruby does not run", status="failed", exit_code=126),
        RunEnd(),
    )
    text = seen.text()
    assert text.count("puts 1") == 1
    assert text.index("╰") < text.index("ruby does not run") < text.index("└ exit 126")


@pytest.mark.parametrize("fold", [None, 0, 3])
def test_the_fold_is_an_option(fold: int | None, screen: Callable[..., Screen]) -> None:
    seen = screen(fold_lines=fold)
    seen.show(
        CodeStart(id="a", code="x", target="bash"),
        CodeOutput(id="a", text="".join(f"{n}\n" for n in range(100))),
        CodeExecution(id="a", code="x", output="", status="completed"),
        RunEnd(),
    )
    shown = [row for row in seen.rows() if row.startswith("  │") and "more" not in row]
    assert len(shown) == (100 if fold is None else fold)
    assert ("more lines" in seen.text()) == (fold is not None)


def test_calls_of_tools_are_folded_as_well(screen: Callable[..., Screen]) -> None:
    seen = screen()
    calls = [ToolCall(id=f"t{n}", name=f"add{n}", code_id="a") for n in range(50)]
    end = CodeExecution(id="a", code="x", output="", status="completed")
    seen.show(
        CodeStart(id="a", code="x", target="bash"), *calls, end, ToolCall(id="t", name="native"), RunEnd()
    )
    text = seen.text()
    assert "· add9 " in text
    assert "· add10 " not in text
    assert "· … 40 more calls of tools" in text
    assert "· native " in text


def test_a_giant_line_is_counted(screen: Callable[..., Screen]) -> None:
    seen = screen(40)
    seen.show(
        CodeStart(id="a", code="y" * 10_000, target="bash"),
        CodeOutput(id="a", text="x" * 4_000 + "\n"),
        CodeExecution(id="a", code="x", output="", status="completed"),
        RunEnd(),
    )
    assert "more characters" in seen.text().replace("\n  │ ", " ")
    assert len(seen.rows()) < 60


def test_a_pipe_and_plain_text_have_the_plain_sink() -> None:
    class Pipe(io.StringIO):
        pass

    assert type(sink_for(Pipe())) is ConsoleSink
    assert type(plugin.agentd_create_event_sink({"color": False})) is ConsoleSink
    stream = io.StringIO()
    sink = sink_for(stream)
    for event in a_run():
        sink.emit(event)
    assert "\x1b" not in stream.getvalue()
    assert "waiting" not in stream.getvalue()
    assert all(LINE.format(n) in stream.getvalue() for n in range(50))
    assert SENTENCE in stream.getvalue()


def test_what_the_model_thinks_is_dim_and_stands_apart_from_its_answer(screen: Callable[..., Screen]) -> None:
    seen = screen()
    seen.show(*deltas("I should *look*.\n\nOr no", ReasoningDelta), *deltas("I look.\n\n", TextDelta))
    seen.show(RunEnd(text="I look."))
    shown = [row for row in seen.rows() if row]
    assert shown[:3] == ["I should look.", "Or no", "I look."]
    stream = io.StringIO()
    painter = TerminalPainter(stream, width=80)
    painter.prose("I should\n\nOr no", "thought")
    painter.end_prose("thought")
    painter.prose("I look.")
    painter.end_prose()
    rows = [
        " ".join(row.replace("\x1b", " \x1b").split())
        for row in stream.getvalue().splitlines()
        if row.strip()
    ]
    assert rows == ["\x1b[2mI should \x1b[0m", "\x1b[2mOr no \x1b[0m", "I look."]


class TestTerminal(EventSinkContract):
    def make_sink(self, folder: Path) -> Any:
        return TerminalSink(io.StringIO(), width=80)


@given(st.lists(st.sampled_from(["a", " ", "\n", "\n\n", "```", "~~~\n", "- x\n", "    y"]), max_size=30))
def test_the_pieces_of_prose_are_the_prose(parts: list[str]) -> None:
    whole = "".join(parts)
    pieces = ProsePieces()
    out = [piece for part in parts for piece in pieces.feed(part)]
    assert "\n".join([*out, pieces.end()]) == whole

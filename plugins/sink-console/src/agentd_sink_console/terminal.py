"""The console sink on a terminal: code while it is written, what is awaited, and long output folded."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, TextIO

import attrs
from agentd.events import (
    CodeDelta,
    CodeExecution,
    CodeStart,
    Event,
    Picture,
    ReasoningDelta,
    RunEnd,
    RunStart,
    TextDelta,
    ToolCall,
    TurnEnd,
)

from agentd_sink_console.console import (
    MAX_CODE_LINES,
    ConsoleSink,
    ShownBlock,
    last_state,
    lexer_of,
    shortened,
    title_of,
)
from agentd_sink_console.live import LiveRows, Unfinished
from agentd_sink_console.neutral import neutral, one_line
from agentd_sink_console.painters import RICH_STYLES, Style, rich_console, wants_color
from agentd_sink_console.pictures import shown_on_terminal
from agentd_sink_console.prose import ProsePieces, rendered

if TYPE_CHECKING:
    from agentd_sink_console.box import CodeBox

__all__ = ["FOLD_LINES", "TerminalSink", "sink_for"]

FOLD_LINES = 20
"""Lines of one block's output that a terminal shows, where nobody chooses."""

_LAST_LINES = 5  # of them are the output's last
_MAX_LINE_ROWS = 6
_MAX_CALLS = 10  # of tools, by one block
_MIN_COLUMNS = 10  # beside a gutter


def sink_for(
    stream: TextIO, *, color: bool | None = None, fold_lines: int | None = FOLD_LINES
) -> ConsoleSink:
    """Return what shows a run on this stream: a `TerminalSink`, or plain and complete text where that is no terminal.

    :param color: False for plain text in any case.
    :param fold_lines: lines of one block's output on a terminal; None for all.
    """
    if color is not False and wants_color(stream):
        return TerminalSink(stream, fold_lines=fold_lines)
    return ConsoleSink(stream, color=color)


@attrs.define
class _Draft:
    """A block that the model is writing, in its frame."""

    id: str
    box: CodeBox
    partial: str = ""  # of its last line


class TerminalPainter:
    """Prints above the live rows: prose as Markdown, code in frames, lines wrapped at words behind their gutter."""

    def __init__(self, stream: TextIO, *, width: int | None = None) -> None:
        self.console = rich_console(stream, width)
        self.rows = LiveRows(self.console)
        self.pieces = ProsePieces()

    def prose(self, text: str, style: Style = "prose") -> None:
        for piece in self.pieces.feed(text):
            self._piece(piece, style)

    def end_prose(self, style: Style = "prose") -> None:
        """Print what is no whole piece yet."""
        self._piece(self.pieces.end(), style)

    def _piece(self, piece: str, style: Style) -> None:
        from rich.segment import SegmentLines
        from rich.style import Style as RichStyle

        shown, dim = rendered(piece.strip("\n")), RichStyle.parse(RICH_STYLES[style])
        lines = self.console.render_lines(shown, style=dim, pad=False)
        filled = [n for n, line in enumerate(lines) if "".join(segment.text for segment in line).strip()]
        if filled:  # rich puts blank lines around lists and tables
            self.console.print(SegmentLines(lines[filled[0] : filled[-1] + 1], new_lines=True))
            self.console.print()

    def code(self, title: str, code: str, lexer: str) -> None:
        box = self.box(title, lexer)
        box.add(code.split("\n"))
        box.close()

    def box(self, title: str, lexer: str) -> CodeBox:
        """Begin a frame."""
        from agentd_sink_console.box import CodeBox

        return CodeBox(self.console, title, lexer)

    def line(self, text: str, style: Style) -> None:
        self.gutter_line("", text, style)

    def raw(self, text: str) -> None:
        """Write what is for the terminal itself, above the live rows."""
        from rich.control import Control
        from rich.segment import ControlType, Segment

        raw = Control()
        raw.segment = Segment(text, None, [(ControlType.BELL,)])  # any: its text is written as it is
        self.console.print(raw, end="")

    def gutter_line(self, gutter: str, text: str, style: Style) -> None:
        """Print a line; each row of it has the gutter in front."""
        from rich.text import Text

        width = max(_MIN_COLUMNS, self.console.width - len(gutter))
        hidden = len(text) - width * _MAX_LINE_ROWS
        if hidden > 0:
            text = f"{text[: width * _MAX_LINE_ROWS]} … {hidden:,} more characters"
        words = Text(text, style=RICH_STYLES[style])
        for row in words.wrap(self.console, width) or [words]:
            shown = Text(gutter + row.plain, style=RICH_STYLES[style])
            self.console.print(shown, no_wrap=True, overflow="ignore", crop=False)


class TerminalSink(ConsoleSink):
    """Shows a run on a terminal. `fold_lines` bounds the output of one block; its first and last lines are shown."""

    def __init__(
        self, stream: TextIO, *, fold_lines: int | None = FOLD_LINES, width: int | None = None
    ) -> None:
        self._terminal = TerminalPainter(stream, width=width)
        self._fold = fold_lines
        self._model = ""
        self._draft: _Draft | None = None
        self._later: list[Event] = []  # events of other blocks while a frame is open
        self._awaited = ("", 0.0)
        self._tails: dict[int, deque[tuple[str, Style]]] = {}  # by block: lines that may be its last
        super().__init__(painter=self._terminal)

    def _show(self, event: Event) -> None:
        with self._terminal.rows.lock:
            self._show_now(event)

    def _show_now(self, event: Event) -> None:
        if self._belongs_behind_the_draft(event):
            self._later.append(event)
            return
        if isinstance(event, RunStart):
            self._model = one_line(event.model) or "the model"
        if isinstance(event, CodeDelta):
            self._code_delta(event)
        else:
            if isinstance(event, TextDelta | ReasoningDelta | TurnEnd | RunEnd):
                self._end_draft()
            super()._show(event)
        self._show_unfinished(event)

    def pause(self) -> None:
        """As a `ConsoleSink`; the live rows go away, and come back with the next event."""
        with self._terminal.rows.lock:
            self._terminal.rows.close()

    def close(self) -> None:
        """Print what is unfinished, and take the live rows away."""
        with self._terminal.rows.lock:
            self._end_draft()
            super().close()
            self._terminal.rows.close()

    # --- what is awaited ---

    def _show_unfinished(self, event: Event) -> None:
        if isinstance(event, RunEnd):
            self._terminal.rows.close()
            return
        awaited = self._what_is_awaited(event)
        if awaited != self._awaited[0] or isinstance(event, TextDelta | ReasoningDelta | CodeDelta):
            self._awaited = (awaited, time.monotonic())
        lines = [f"│ {neutral(self._draft.partial)}"] if self._draft else []
        for block in self._running.values():
            lines += [f"  {block.mark} {line}" for line, _ in self._tails.get(block.number, ())]
            lines += [f"  {block.mark} {neutral(last_state(text))}" for text in block.partial.values()]
        rest = self._terminal.pieces.rest
        dim = self._prose_style == "thought"
        self._terminal.rows.show(Unfinished(rest, tuple(lines), *self._awaited, is_dim=dim))

    def _what_is_awaited(self, event: Event) -> str:
        if self._draft is not None:
            return "the model writes code"
        if self._running:
            numbers = ", ".join(str(block.number) for block in self._running.values())
            return f"block {numbers} runs" if len(self._running) == 1 else f"blocks {numbers} run"
        if isinstance(event, TextDelta):
            return "the model writes"
        if isinstance(event, ReasoningDelta):
            return "the model thinks"
        return f"waiting for {self._model}"

    # --- prose ---

    def _prose(self, text: str, style: Style) -> None:
        text = neutral(text)
        if not self._in_prose or style != self._prose_style:
            text = text.lstrip("\n")
            if not text.strip():
                return
            self._gap()
        self._prose_style = style
        self._painter.prose(text, style)
        self._in_prose = True

    def _finish_line(self) -> None:
        if self._in_prose:
            self._in_prose = False
            self._terminal.end_prose(self._prose_style)
            self._blank = True

    def _gap(self) -> None:
        self._finish_line()
        if not self._blank:
            self._terminal.console.print()
            self._blank = True

    # --- code ---

    def _belongs_behind_the_draft(self, event: Event) -> bool:
        """Tell whether this is about another block than the one whose frame is open."""
        if self._draft is None or isinstance(event, TextDelta | ReasoningDelta | TurnEnd | RunEnd | RunStart):
            return False
        if isinstance(event, CodeDelta | CodeStart):
            return False
        return not (isinstance(event, CodeExecution) and event.id == self._draft.id)

    def _code_delta(self, event: CodeDelta) -> None:
        if self._draft is None or self._draft.id != event.id:
            self._end_draft()
            self._finish_line()
            self._gap()
            title = f"{self._blocks + 1} · {title_of(event)}"
            self._draft = _Draft(event.id, self._terminal.box(title, lexer_of(event)))
        *lines, self._draft.partial = (self._draft.partial + event.text).split("\n")
        box = self._draft.box
        fresh = [part for line in lines for part in neutral(line.rstrip("\r")).split("\n")]
        box.add(shortened(fresh[: max(0, MAX_CODE_LINES - len(box.lines))]))

    def _code_start(self, event: CodeStart) -> None:
        draft = self._draft
        if draft is None or draft.id != event.id:
            self._end_draft()
            super()._code_start(event)
            return
        self._begin_block(event)
        self._finish_draft(event.code)

    def _finish_draft(self, code: str) -> None:
        """Close the frame, with the rest of the code in it."""
        assert self._draft is not None
        box = self._draft.box
        lines = shortened(neutral(code).rstrip("\n").split("\n"))
        shown = len(box.lines)
        if box.lines == lines[:shown]:
            box.add(lines[shown:])
        self._end_draft()

    def _end_draft(self) -> None:
        draft, self._draft = self._draft, None
        if draft is not None:
            draft.box.close()
            self._blank = False
            later, self._later = self._later, []
            for event in later:
                super()._show(event)

    def _code_execution(self, event: CodeExecution) -> None:
        if self._draft is not None:  # a block that never starts
            self._blocks += 1
            self._finish_draft(event.code)
        super()._code_execution(event)

    # --- its output ---

    def _output_lines(self, block: ShownBlock, lines: list[str], style: Style) -> None:
        for line in lines:
            if self._fold is None or block.lines < max(0, self._fold - _LAST_LINES):
                self._gutter_line(block, line, style)
                continue
            tail = self._tails.setdefault(block.number, deque())
            tail.append((line, style))
            if len(tail) > min(_LAST_LINES, self._fold):
                tail.popleft()
                block.hidden += 1

    def _end_output(self, block: ShownBlock) -> None:
        if block.calls > _MAX_CALLS:
            self._line(f"  · … {block.calls - _MAX_CALLS:,} more calls of tools", "note")
        if block.hidden:
            self._line(f"  {block.mark} … {block.hidden:,} more lines …", "note")
        for line, style in self._tails.pop(block.number, ()):
            self._gutter_line(block, line, style)

    def _draws(self) -> bool:
        return True

    def _draw(self, event: Picture) -> None:
        self._terminal.raw(shown_on_terminal(event, self._terminal.console.width))

    def _tool_call(self, event: ToolCall) -> None:
        block = self._running.get(event.code_id)
        if block is not None and self._fold is not None:
            block.calls += 1
            if block.calls > _MAX_CALLS:
                return
        super()._tool_call(event)

    def _gutter_line(self, block: ShownBlock, line: str, style: Style) -> None:
        self._finish_line()
        self._terminal.gutter_line(f"  {block.mark} ", line, style)
        self._blank = False
        block.lines += 1

    def _reset(self) -> None:
        super()._reset()
        self._tails.clear()

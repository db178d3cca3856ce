"""The console sink: shows a run to a person while it happens.

Prose appears as it streams, code when it starts to run, its output line by line while it runs. Whatever
arrives, a line is never torn: prose, output and notes each start on a line of their own, also when
several blocks run at once.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import TextIO

import attrs
from agentd.events import (
    Approval,
    CodeDelta,
    CodeExecution,
    CodeOutput,
    CodeStart,
    Event,
    Picture,
    ReasoningDelta,
    RunEnd,
    RunStart,
    SourceLog,
    TextDelta,
    ToolCall,
    ToolProgress,
    TurnEnd,
)
from agentd.types import Usage

from agentd_sink_console.neutral import neutral, one_line
from agentd_sink_console.painters import Painter, PlainPainter, RichPainter, Style, wants_color
from agentd_sink_console.pictures import shown_on_terminal, summary_of

__all__ = ["MAX_CODE_LINES", "ConsoleSink", "ShownBlock", "last_state", "lexer_of", "shortened", "title_of"]

MAX_CODE_LINES = 200
"""Of one block, on a terminal."""

_MAX_CODE_COLUMNS = 400
_MAX_LINE_CHARS = 4_096  # an unfinished line is shown at this length, so that nothing grows without bound
_MAX_TOOL_CHARS = 120
_PROGRESS_PAUSE_S = 1.0  # between two lines about one call
_BAD_LEVELS = ("error", "critical", "alert", "emergency")

_STOPPED = {
    "refused": "refused by the model or its provider",
    "cut": "cut off: the answer has reached its limit of tokens",
    "provider_error": "broken off by the provider",
    "max_turns": "stopped: the limit of turns is reached",
    "wall_time": "stopped: the wall time is used up",
    "tokens": "stopped: the limit of tokens is reached",
    "cost": "stopped: the next request would cost more than is left of the money",
    "tool_calls": "stopped: the limit of tool calls is reached",
    "rejected_blocks": "stopped: the model kept on writing blocks that cannot be run",
    "cancelled": "cancelled",
    "error": "failed",
}


@attrs.define
class ShownBlock:
    """A block that runs: its number in this run, its unfinished lines, and how much was shown."""

    number: int
    shared: bool = False  # another block ran at the same time: its number stands before its lines
    partial: dict[str, str] = attrs.field(factory=dict)
    lines: int = 0
    hidden: int = 0
    calls: int = 0

    @property
    def mark(self) -> str:
        """What stands in front of its output."""
        return f"{self.number}│" if self.shared else "│"


class ConsoleSink:
    """Print events to `stream` (default: standard output) as they come; `sink_for` has more for terminals.

    `color` True or False overrides what the stream and NO_COLOR say. `width` in columns, for rich.
    `painter` shows everything in place of the stream. `max_output_lines` bounds the output of one block (default: all
    of it is shown); the rest is counted. Of a line that is written anew, as progress bars are, the last state is shown.
    Escape sequences and control characters in what the model and the code wrote are removed. Thread-safe.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        color: bool | None = None,
        width: int | None = None,
        painter: Painter | None = None,
        max_output_lines: int | None = None,
    ) -> None:
        self._painter = painter or _painter_for(stream if stream is not None else sys.stdout, color, width)
        self._max_lines = max_output_lines
        self._lock = threading.Lock()
        self._reset()

    def _reset(self) -> None:
        self._in_prose = False  # the last thing shown was prose
        self._prose_style: Style = "prose"  # or what the model thinks
        self._open_line = False  # and it stands in an unfinished line
        self._blank = True  # the last line is blank, or nothing was written yet
        self._running: dict[str, ShownBlock] = {}
        self._blocks = 0
        self._started = time.monotonic()
        self._progress: dict[str, float] = {}  # when a line about a call was last shown

    def emit(self, event: Event) -> None:
        """Show one event."""
        with self._lock:
            self._show(event)

    def _show(self, event: Event) -> None:
        match event:
            case RunStart():
                self._run_start(event)
            case TextDelta():
                self._prose(event.text, "prose")
            case ReasoningDelta():
                self._prose(event.text, "thought")
            case TurnEnd():
                self._finish_line()  # the next answer is a paragraph of its own
            case CodeStart():
                self._code_start(event)
            case CodeOutput():
                self._code_output(event)
            case CodeExecution():
                self._code_execution(event)
            case ToolCall():
                self._tool_call(event)
            case Approval():
                self._approval(event)
            case ToolProgress():
                self._tool_progress(event)
            case SourceLog():
                self._source_log(event)
            case Picture():
                self._picture(event)
            case RunEnd():
                self._run_end(event)
            case _:
                pass

    def pause(self) -> None:
        """Leave the stream to somebody else until the next event: end an unfinished line, draw nothing anew."""
        with self._lock:
            self._finish_line()

    def close(self) -> None:
        """End an unfinished line. The stream stays open."""
        with self._lock:
            self._finish_line()

    # --- one method for each event ---

    def _run_start(self, event: RunStart) -> None:
        self._reset()
        if event.model:
            place = f" · executor {one_line(event.executor)}" if event.executor else ""
            self._line(f"model {one_line(event.model)}{place}", "note")
            self._gap()

    def _prose(self, text: str, style: Style) -> None:
        text = neutral(text)
        if not self._in_prose or style != self._prose_style:
            text = text.lstrip("\n")
            if not text.strip():
                return  # blank space between blocks
            self._finish_line()
            self._gap()
        self._prose_style = style
        self._painter.prose(text, style)
        self._in_prose = True
        self._open_line = not text.endswith("\n")
        self._blank = text.endswith("\n\n") or (self._blank and not text.strip("\n"))

    def _code_start(self, event: CodeStart) -> None:
        self._begin_block(event)
        self._finish_line()
        self._gap()
        lines = neutral(event.code).rstrip("\n").split("\n")
        if not isinstance(self._painter, PlainPainter):
            lines = shortened(lines)
        self._painter.code(f"{self._blocks} · {title_of(event)}", "\n".join(lines), lexer_of(event))
        self._blank = False

    def _begin_block(self, event: CodeStart) -> None:
        self._blocks += 1
        self._running[event.id] = ShownBlock(self._blocks)
        if len(self._running) > 1:
            for block in self._running.values():
                block.shared = True

    def _code_output(self, event: CodeOutput) -> None:
        block = self._running.get(event.id)
        if block is None:
            block = self._running[event.id] = ShownBlock(self._blocks)
        text = block.partial.pop(event.stream, "") + event.text
        whole, newline, rest = text.rpartition("\n")
        if newline:
            self._output(block, whole, event.stream)
        if len(rest) > _MAX_LINE_CHARS:
            rest = last_state(rest)  # a progress bar that has not ended yet
        if len(rest) > _MAX_LINE_CHARS:
            self._output(block, rest, event.stream)
        elif rest:
            block.partial[event.stream] = rest

    def _output(self, block: ShownBlock, text: str, stream: str) -> None:
        lines = [part for line in text.split("\n") for part in neutral(last_state(line)).split("\n")]
        self._output_lines(block, lines, "stderr" if stream == "stderr" else "stdout")

    def _output_lines(self, block: ShownBlock, lines: list[str], style: Style) -> None:
        room = len(lines) if self._max_lines is None else max(0, self._max_lines - block.lines)
        for line in lines[:room]:
            self._line(f"  {block.mark} {line}", style)
        block.lines += min(room, len(lines))
        block.hidden += max(0, len(lines) - room)

    def _code_execution(self, event: CodeExecution) -> None:
        block = self._running.get(event.id) or ShownBlock(self._blocks)
        for stream, text in block.partial.items():
            self._output(block, text, stream)
        block.partial.clear()
        if not block.lines and event.output.strip():
            self._output(block, event.output.strip("\n"), "stdout")
        self._end_output(block)
        self._running.pop(event.id, None)
        which = f"{block.number} " if block.shared else ""
        good = event.status == "completed"
        ended = "ok" if good else f"exit {event.exit_code}"
        self._line(f"  {which}└ {ended} · {event.wall_s:.2f} s", "ok" if good else "bad")

    def _end_output(self, block: ShownBlock) -> None:
        if block.hidden:
            self._line(f"  … {block.hidden:,} more lines", "note")

    def _tool_progress(self, event: ToolProgress) -> None:
        now = time.monotonic()
        if now - self._progress.get(event.id, 0.0) < _PROGRESS_PAUSE_S:
            return
        self._progress[event.id] = now
        share = f"{event.done / event.total:.0%}" if event.total else f"{event.done:g}"
        self._line(f"  · {_one_line(event.name)} {share} {_one_line(event.message)}".rstrip(), "note")

    def _source_log(self, event: SourceLog) -> None:
        if event.level != "debug":
            style: Style = "bad" if event.level in _BAD_LEVELS else "note"
            self._line(
                f"  · {_one_line(event.source)} {_one_line(event.level)}: {_one_line(event.text)}", style
            )

    def _approval(self, event: Approval) -> None:
        if event.kind == "tool" or event.decision.startswith("denied"):
            style: Style = "bad" if event.decision.startswith("denied") else "note"
            self._line(
                f"  · {_one_line(event.name)} {_one_line(event.decision or 'asks whether it may')}", style
            )

    def _picture(self, event: Picture) -> None:
        place = f" · {one_line(event.path)}" if event.path and not self._draws() else ""
        self._line(f"  · picture {summary_of(event)}{place}", "note")
        self._draw(event)

    def _draws(self) -> bool:
        """Tell whether pictures themselves can be shown, or links to them."""
        return isinstance(self._painter, RichPainter)

    def _draw(self, event: Picture) -> None:
        if isinstance(self._painter, RichPainter):
            self._painter.raw(shown_on_terminal(event, self._painter.columns))

    def _tool_call(self, event: ToolCall) -> None:
        self._progress.pop(event.id, None)
        if event.name == "agentd_show" and event.status == "completed":
            return  # the picture itself is shown; what was called with is its bytes
        arguments, result = _one_line(event.arguments), _one_line(event.result)
        good = event.status == "completed"
        arrow = "→" if good else "failed:"
        self._line(f"  · {_one_line(event.name)} {arguments} {arrow} {result}", "tool" if good else "bad")

    def _run_end(self, event: RunEnd) -> None:
        self._running.clear()
        self._finish_line()
        self._gap()
        if event.stop_reason != "answer":
            self._line(_STOPPED[event.stop_reason], "bad")
        if event.error:
            self._line(neutral(event.error), "bad")
        self._line(_summary(event, time.monotonic() - self._started), "note")

    # --- lines ---

    def _finish_line(self) -> None:
        self._in_prose = False
        if self._open_line:
            self._painter.prose("\n", self._prose_style)
            self._open_line = False
            self._blank = False

    def _line(self, text: str, style: Style) -> None:
        self._finish_line()
        self._painter.line(text, style)
        self._blank = False

    def _gap(self) -> None:
        if not self._blank:
            self._painter.prose("\n")
            self._blank = True


def _painter_for(stream: TextIO, color: bool | None, width: int | None) -> Painter:
    rich = wants_color(stream) if color is None else color
    return RichPainter(stream, width=width) if rich else PlainPainter(stream)


def title_of(event: CodeDelta | CodeStart) -> str:
    """Return what a block is, in a few words."""
    target = one_line(event.target) or "code"
    return target if event.action == "execute" else f"{_one_line(event.action)} {target}"


def lexer_of(event: CodeDelta | CodeStart) -> str:
    """Return what highlights a block's code."""
    if event.action == "execute":
        return event.target if event.target in ("bash", "python") else "text"
    suffixes = {"py": "python", "sh": "bash", "md": "markdown", "json": "json", "yaml": "yaml", "yml": "yaml"}
    return suffixes.get(event.target.rpartition(".")[2], "text")


def shortened(lines: list[str]) -> list[str]:
    """The lines of some code as far as a person reads them; highlighting megabytes would hold up the run."""
    shown = [
        line if len(line) <= _MAX_CODE_COLUMNS else f"{line[:_MAX_CODE_COLUMNS]} …"
        for line in lines[:MAX_CODE_LINES]
    ]
    hidden = len(lines) - len(shown)
    return [*shown, f"… {hidden:,} more lines"] if hidden else shown


def last_state(line: str) -> str:
    """What a line shows in the end: a carriage return begins it anew, as progress bars do."""
    return line.rstrip("\r").rpartition("\r")[2]


def _one_line(text: str) -> str:
    text = one_line(text)
    return text if len(text) <= _MAX_TOOL_CHARS else text[: _MAX_TOOL_CHARS - 1] + "…"


def _summary(event: RunEnd, seconds: float) -> str:
    turns = f"{event.turns} turn{'' if event.turns == 1 else 's'}"
    return " · ".join([turns, *_usage_parts(event.usage), f"{seconds:.1f} s"])


def _usage_parts(usage: Usage) -> list[str]:
    parts = []
    if usage.total_tokens:
        parts.append(f"{usage.input_tokens:,} + {usage.output_tokens:,} tokens")
    if usage.cost_usd is not None:
        parts.append(f"{'at least ' if usage.unpriced_requests else ''}${usage.cost_usd:.4f}")
    elif usage.total_tokens:
        parts.append("cost unknown")
    return parts

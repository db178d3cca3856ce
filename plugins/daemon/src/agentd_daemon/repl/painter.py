"""Painting: what one agent does, as rows that begin with its name."""

from __future__ import annotations

import io
from collections.abc import Iterable

from agentd_sink_console.neutral import one_line
from agentd_sink_console.painters import PlainPainter, RichPainter, Style

from agentd_daemon.repl.screen import LiveRow, Screen
from agentd_daemon.repl.wrapping import cut, width_of, wrap

__all__ = ["AGENT_COLOURS", "AgentPainter", "styled"]

AGENT_COLOURS = ("cyan", "yellow", "magenta", "green", "blue", "red")
_SGR_COLOURS = {"red": "31", "green": "32", "yellow": "33", "blue": "34", "magenta": "35", "cyan": "36"}
_SGR: dict[Style, str] = {
    "prose": "",
    "stdout": "2",
    "stderr": "2;31",
    "ok": "32",
    "bad": "1;31",
    "tool": "35",
    "note": "2",
    "thought": "2",
}
_MAX_ROWS = 20  # of one line; the rest is counted
_MIN_TEXT_COLUMNS = 20  # a name gives way to this
_MIN_PANEL_COLUMNS = 30  # a frame around code needs some room


def styled(text: str, sgr: str) -> str:
    """Return `text` between an SGR sequence and its end."""
    return f"\x1b[{sgr}m{text}\x1b[0m" if sgr and text else text


class AgentPainter:
    """A `Painter` whose rows go to a screen, each behind the agent's name.

    :param colour: one of `AGENT_COLOURS`, for the name.
    :param name_columns: so wide is the longest name of all agents; where there is room, all names are.
    """

    def __init__(self, screen: Screen, agent: str, *, colour: str, name_columns: int) -> None:
        self._screen = screen
        self._agent = agent
        self._name = one_line(agent)
        self._colour = colour
        self._name_columns = name_columns
        self._open = ""  # prose that fills no row yet

    def prose(self, text: str, style: Style = "prose") -> None:
        """Show prose as it streams: rows that are full or ended, and the rest as a live row."""
        sgr = _SGR[style] if self._screen.color else ""
        *lines, rest = (self._open + text).split("\n")
        width = self._columns()
        for line in lines:
            self._show(styled(row, sgr) for row in wrap(line, width))
        *rows, self._open = wrap(rest, width)
        self._show(styled(row, sgr) for row in rows)
        live = LiveRow(self._prefix(), self._open, self._colour) if self._open else None
        self._screen.show_live(self._agent, live)

    def code(self, title: str, code: str, lexer: str) -> None:
        """Show code, framed and coloured where there is colour and room."""
        width = self._columns()
        stream = io.StringIO()
        if self._screen.color and width >= _MIN_PANEL_COLUMNS:
            RichPainter(stream, width=width).code(title, code, lexer)
            self._show(stream.getvalue().splitlines())
        else:
            PlainPainter(stream).code(title, code, lexer)
            for line in stream.getvalue().splitlines():
                self._show(wrap(line, width, at_words=False))

    def line(self, text: str, style: Style) -> None:
        """Show a line of output or a note."""
        width = self._columns()
        room = width * _MAX_ROWS
        hidden = len(text) - room
        if hidden > 0:
            text = f"{text[:room]} … {hidden:,} more characters"
        sgr = _SGR[style] if self._screen.color else ""
        self._show(styled(row, sgr) for line in text.split("\n") for row in wrap(line, width, at_words=False))

    def _show(self, rows: Iterable[str]) -> None:
        prefix = self._prefix()
        if self._screen.color:
            prefix = styled(prefix, f"1;{_SGR_COLOURS[self._colour]}")
        self._screen.show(f"{prefix}{row}" for row in rows)

    def _columns(self) -> int:
        return max(1, self._screen.columns - width_of(self._prefix()))

    def _prefix(self) -> str:
        room = min(self._name_columns, max(1, self._screen.columns - _MIN_TEXT_COLUMNS))
        name = cut(self._name, room)
        return f"{name}{' ' * (room - width_of(name))} ┆ "

"""Painters: how the console sink puts things on a stream, in plain text or with rich on a terminal."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal, Protocol, TextIO

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["RICH_STYLES", "Painter", "PlainPainter", "RichPainter", "Style", "rich_console", "wants_color"]

Style = Literal["prose", "stdout", "stderr", "ok", "bad", "tool", "note", "thought"]

RICH_STYLES: dict[Style, str] = {
    "prose": "",
    "stdout": "dim",
    "stderr": "dim red",
    "ok": "green",
    "bad": "bold red",
    "tool": "magenta",
    "note": "dim",
    "thought": "dim",
}


def wants_color(stream: TextIO) -> bool:
    """Tell whether `stream` is a terminal whose person has not asked for plain text (NO_COLOR, TERM=dumb)."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return stream.isatty()


class Painter(Protocol):
    """Writes text that is already neutral. `line` ends with a newline, `prose` as the text does; the style of a line of
    it is `prose` or `thought`."""

    def prose(self, text: str, style: Style = "prose") -> None: ...

    def code(self, title: str, code: str, lexer: str) -> None: ...

    def line(self, text: str, style: Style) -> None: ...


class PlainPainter:
    """Plain text: for pipes, files, NO_COLOR and dumb terminals."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()

    def prose(self, text: str, style: Style = "prose") -> None:
        self._write(text)

    def code(self, title: str, code: str, lexer: str) -> None:
        body = "".join(f"    {line}".rstrip() + "\n" for line in code.splitlines())
        self._write(f"--- {title}\n{body}")

    def line(self, text: str, style: Style) -> None:
        self._write(text + "\n")


class RichPainter:
    """Colour and highlighted code panels. `width` in columns; None follows the terminal."""

    def __init__(self, stream: TextIO, *, width: int | None = None) -> None:
        self._stream = stream
        self._console = rich_console(stream, width)

    def prose(self, text: str, style: Style = "prose") -> None:
        # Straight to the stream: rich would wrap each delta as if it started a line.
        self._stream.write(f"\x1b[2m{text}\x1b[0m" if style == "thought" and text.strip() else text)
        self._stream.flush()

    def code(self, title: str, code: str, lexer: str) -> None:
        from rich.panel import Panel
        from rich.syntax import Syntax
        from rich.text import Text

        syntax = Syntax(code, lexer, theme="ansi_dark", background_color="default", word_wrap=True)
        panel = Panel(syntax, title=Text(title), title_align="left", border_style="cyan")
        self._console.print(panel)
        self._stream.flush()

    def line(self, text: str, style: Style) -> None:
        from rich.text import Text

        self._console.print(Text(text, style=RICH_STYLES[style]), soft_wrap=True)
        self._stream.flush()

    @property
    def columns(self) -> int:
        """How wide the terminal is."""
        return self._console.width

    def raw(self, text: str) -> None:
        """Write what is for the terminal itself."""
        self._stream.write(text)
        self._stream.flush()


def rich_console(stream: TextIO, width: int | None) -> Console:
    """Return a console of rich that prints text as it is, for a terminal."""
    from rich.console import Console

    return Console(
        file=stream,
        width=width,
        force_terminal=True,
        markup=False,
        highlight=False,
        emoji=False,
        legacy_windows=False,
    )

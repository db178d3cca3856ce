"""A frame around code that grows line by line while the model writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

__all__ = ["CodeBox"]

_MAX_CHARS_AT_ONCE = 8_000  # more is not highlighted again for each line that comes
_STYLE = "cyan"


class CodeBox:
    """Prints a frame with a title; `add` what is in it, then `close`."""

    def __init__(self, console: Console, title: str, lexer: str) -> None:
        self._console = console
        self._lexer = lexer
        self.lines: list[str] = []
        """All lines so far."""
        self._width = max(8, console.width)
        self._edge(f"╭─ {title} ", "╮")

    def add(self, lines: Sequence[str]) -> None:
        """Print more lines."""
        if not lines:
            return
        self.lines += lines
        code = "\n".join(self.lines)
        if len(code) > _MAX_CHARS_AT_ONCE:
            code = "\n".join(lines)
        for line in self._highlighted(code)[-len(lines) :]:
            for row in line.wrap(self._console, self._width - 4) or [line]:
                self._row(row)

    def close(self) -> None:
        """Print the lower edge."""
        self._edge("╰", "╯")

    def _highlighted(self, code: str) -> list[Text]:
        from rich.syntax import Syntax

        syntax = Syntax(code, self._lexer, theme="ansi_dark", background_color="default", tab_size=4)
        lines = list(syntax.highlight(code).split("\n", allow_blank=True))
        return lines[: code.count("\n") + 1]  # the highlighter ends with a line end of its own

    def _row(self, row: Text) -> None:
        from rich.text import Text

        row.truncate(self._width - 4, pad=True)
        self._print(Text("│ ", style=_STYLE), row, Text(" │", style=_STYLE))

    def _edge(self, left: str, right: str) -> None:
        from rich.cells import cell_len, set_cell_size
        from rich.text import Text

        if cell_len(left) > self._width - 2:
            left = set_cell_size(left, self._width - 3) + "…"
        line = left + "─" * (self._width - 1 - cell_len(left)) + right
        self._print(Text(line, style=_STYLE))

    def _print(self, *parts: Text) -> None:
        self._console.print(*parts, sep="", no_wrap=True, overflow="ignore", crop=False)

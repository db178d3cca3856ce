"""Prose on a terminal: the model's Markdown, rendered piece by piece as soon as a piece is whole."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["ProsePieces", "rendered"]

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_MAX_LINE_CHARS = 4_096  # an unfinished line ends here
_MAX_PIECE_LINES = 300  # so many are not kept back any longer
_MAX_MARKDOWN_CHARS = 20_000  # more than that is shown as it is


class ProsePieces:
    """Cuts text into pieces that can be rendered by themselves: at blank lines in no fence and no list item."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._lines: list[str] = []
        self._partial = ""
        self._fence = ""  # that is open
        self._after_blank = False

    @property
    def rest(self) -> str:
        """What is no whole piece yet."""
        return "\n".join([*self._lines, self._partial])

    def feed(self, text: str) -> list[str]:
        """Take more text; return the pieces that are whole now."""
        out: list[str] = []
        *lines, self._partial = (self._partial + text).split("\n")
        if len(self._partial) > _MAX_LINE_CHARS:
            lines, self._partial = [*lines, self._partial], ""
        for line in lines:
            self._take_line(line, out)
        if self._ends_piece(self._partial):
            self._cut(out)
        return out

    def end(self) -> str:
        """End the text; return what was left."""
        rest = self.rest
        self._begin()
        return rest

    def _ends_piece(self, line: str) -> bool:
        return self._after_blank and bool(line) and not line[0].isspace()

    def _take_line(self, line: str, out: list[str]) -> None:
        if self._ends_piece(line) or len(self._lines) >= _MAX_PIECE_LINES:
            self._cut(out)
        self._lines.append(line)
        fence = _FENCE.match(line)
        if self._fence:
            if fence and fence[1].startswith(self._fence) and not line.strip().strip(self._fence[0]):
                self._fence = ""
        elif fence:
            self._fence = fence[1]
        self._after_blank = not self._fence and not line.strip()

    def _cut(self, out: list[str]) -> None:
        out.append("\n".join(self._lines))
        self._lines = []
        self._after_blank = False


def rendered(text: str) -> RenderableType:
    """Return a piece of prose, as Markdown unless it is too long for that.

    Nothing of it is lost: what looks like HTML (`List<int>`) stays, lines end where the model ended them, and the
    address of a link is shown.
    """
    from markdown_it import MarkdownIt
    from rich.markdown import Markdown
    from rich.text import Text

    if len(text) > _MAX_MARKDOWN_CHARS:
        return Text(text)
    shown = Markdown(text, code_theme="ansi_dark", hyperlinks=False)
    parser = MarkdownIt("commonmark", {"html": False}).enable(["strikethrough", "table"])
    shown.parsed = _with_line_ends(parser.parse(text))
    return shown


def _with_line_ends(tokens: list[Any]) -> list[Any]:
    for token in tokens:
        for child in token.children or ():
            if child.type == "softbreak":
                child.type = "hardbreak"
    return tokens

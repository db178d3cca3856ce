"""The inside of a fence: where it closes, and what of it is the code."""

from __future__ import annotations

import re
from typing import Final

from agentd_parser_fence.opener import Opener, advance_column

__all__ = ["BodyReader", "code_of", "next_line"]

_LINE_END: Final = re.compile(r"\r\n?|\n")
_BLANKS: Final = re.compile(r"[ \t]*")
_LEADING_BLANKS: Final = re.compile(r"^[ \t]+", re.MULTILINE)

_INDENT, _RUN, _TAIL, _CONTENT = range(4)  # where in a line: the last cannot close the fence


def next_line(text: str, start: int) -> int:
    """Return the index behind the next line end at or after `start`, or -1."""
    end = _LINE_END.search(text, start)
    return end.end() if end else -1


class BodyReader:
    """Finds the closing fence of one opener, reading the text behind the opener's line in pieces.

    A closing fence has at least as many characters, nothing but blanks behind them, and at most three
    columns more indentation than the content of its list item. Unlike in CommonMark, a line with less
    indentation than the list item does not end the fence: models often forget to indent the code.
    """

    __slots__ = ("_char", "_column", "_length", "_most", "_run", "_run_re", "_where")

    def __init__(self, opener: Opener) -> None:
        self._char = opener.char
        self._length = opener.length
        self._most = opener.base + 3
        self._run_re = re.compile(f"{opener.char}*")
        self._where = _INDENT
        self._column = self._run = 0

    @property
    def in_content(self) -> bool:
        """True if the current line cannot be the closing one: only a line end matters next."""
        return self._where == _CONTENT

    @property
    def ends(self) -> str | None:
        """A pattern for what can be the beginning of the closing line, with the character before it; or None."""
        if self._where == _CONTENT or (self._where == _INDENT and self._column == 0):
            return rf"\r|\n[ \t]*{self._char}|\n[ \t]+\Z"
        return None

    @property
    def in_closing_line(self) -> bool:
        """True if the current line, were it to end here, would be the closing one."""
        return self._where == _TAIL or (self._where == _RUN and self._run >= self._length)

    def find_end(self, text: str, start: int) -> int:
        """Read on; return the index behind the closing line (and its line end), or -1 if it is not there."""
        index = start
        while True:
            if self._where == _CONTENT:
                index = next_line(text, index)
                if index < 0:
                    return -1
                self._where = _INDENT
                self._column = self._run = 0
            if self._where == _INDENT:
                index = self._skip_indent(text, index)
            if self._where == _RUN:
                end = self._run_re.match(text, index).end()  # type: ignore[union-attr]  # matches always
                self._run += end - index
                index = end
                if index < len(text):
                    self._where = _TAIL if self._run >= self._length else _CONTENT
            if self._where == _TAIL:
                index = _BLANKS.match(text, index).end()  # type: ignore[union-attr]  # matches always
                if index < len(text):
                    if text[index] in "\r\n":
                        return next_line(text, index)
                    self._where = _CONTENT
            if index == len(text):
                return -1

    def _skip_indent(self, text: str, index: int) -> int:
        while index < len(text) and text[index] in " \t" and self._column <= self._most:
            self._column = advance_column(self._column, text[index])
            index += 1
        if index < len(text):
            fence = text[index] == self._char and self._column <= self._most
            self._where = _RUN if fence else _CONTENT
        return index


def code_of(opener: Opener, body: str) -> str:
    """Return the code between the fence lines: line ends become LF, and the opener's indentation goes."""
    if "\r" in body:
        body = body.replace("\r\n", "\n").replace("\r", "\n")
    if opener.column == 0:
        return body
    if "\t" not in body:
        return re.sub(rf"^ {{1,{opener.column}}}", "", body, flags=re.MULTILINE)
    return _LEADING_BLANKS.sub(lambda match: _unindent(match[0], opener.column), body)


def _unindent(blanks: str, columns: int) -> str:
    """Take up to `columns` columns away; of a tab that reaches further, spaces are left."""
    index = column = 0
    while index < len(blanks) and column < columns:
        column = advance_column(column, blanks[index])
        index += 1
    return " " * (column - columns) + blanks[index:]

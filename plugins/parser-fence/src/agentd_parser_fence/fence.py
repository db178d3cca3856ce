"""One fence: the line that opens it, where it closes, and what of it is the code.

CommonMark 0.31, sections 4.5 (fenced code blocks) and 5.2 (list items). Columns count from 0; a tab goes on to the next
multiple of 4. A simplification: a line that is indented less than a list item's content ends the item also where
CommonMark would have a lazy continuation of its paragraph.
"""

from __future__ import annotations

import re
from typing import Final, Literal, TypeAlias

import attrs

from agentd_parser_fence.html_block import HtmlBlock, html_block_at

__all__ = [
    "BodyReader",
    "LineStart",
    "Opener",
    "advance_column",
    "code_of",
    "goes_on",
    "next_line",
]

_MARKER: Final = re.compile(r"(?:[-+*]|\d{1,9}[.)])(?=[ \t]|\Z)")
_MARKER_PART: Final = re.compile(r"\d{1,9}[.)]?\Z|[-+*]\Z")
_BREAK: Final = re.compile(r"[ \t]*(?:(?:-[ \t]*){3,}|(?:\*[ \t]*){3,})\Z")
_RUN: Final = re.compile(r"`+|~+")
_LONGEST_HEAD: Final = 200  # characters before and of the fence: what is indented or nested deeper is prose

_Verdict: TypeAlias = Literal["prose", "more", "blank", "marker"]  # the last: nothing is behind a list marker


def advance_column(column: int, char: str) -> int:
    """Return the column behind `char`, a space or a tab, that stands at `column`."""
    return column + 4 - column % 4 if char == "\t" else column + 1


@attrs.frozen
class Opener:
    """An opening fence: `length` times `char` at `index` of its line, `column` columns from its left.

    `base` is the column at which the content of the list item around it starts (0 outside of lists). `at`
    is where the segment begins: with the line, or, behind a list marker on the same line, with the fence.
    """

    char: str
    length: int
    index: int
    column: int
    base: int
    at: int


@attrs.define
class LineStart:
    """Reads how lines begin, and remembers the list items that are open between them.

    `items` holds the content columns of the open list items, outermost first; `empty` says that the last one has
    nothing but its marker yet: it is over then with a blank line.
    """

    items: list[int] = attrs.field(factory=list)
    empty: bool = False

    @property
    def base(self) -> int:
        """The column that lines of the innermost open list item begin at, at least; 0 outside of lists."""
        return self.items[-1] if self.items else 0

    def read(self, head: str, *, ended: bool) -> Opener | HtmlBlock | Literal["prose", "more"]:
        """Judge a line by its beginning: `prose` for good, `more` characters needed, an opener, or HTML.

        `head` has no line end; `ended` says that the line ends behind it. An opener is returned once its
        run of fence characters is over; whether its info string is a good one is not looked at.
        """
        whole = len(head) <= _LONGEST_HEAD
        verdict, items = self._judge(head[:_LONGEST_HEAD], ended and whole)
        if verdict == "more" and whole:
            return verdict
        self.items = items[:-1] if verdict == "blank" and self.empty else items
        self.empty = verdict == "marker"
        return "prose" if verdict in ("blank", "marker", "more") else verdict  # type: ignore[return-value]  # `in` narrows nothing

    def _judge(self, head: str, ended: bool) -> tuple[Opener | HtmlBlock | _Verdict, list[int]]:
        index = column = behind_marker = 0
        items = self.items
        marked = False
        while True:
            while index < len(head) and head[index] in " \t":
                column = advance_column(column, head[index])
                index += 1
            if marked:
                empty = index == len(head)
                items[-1] = behind_marker + 1 if empty or column > behind_marker + 4 else column
            elif index < len(head):
                items = [offset for offset in items if offset <= column]
            base = items[-1] if items else 0
            if index == len(head):
                return (("marker" if marked else "blank") if ended else "more"), items
            if column - base >= 4:
                return "prose", items  # indented code
            run = _RUN.match(head, index)
            if run is not None:
                at = index if marked else 0
                opener = Opener(run[0][0], len(run[0]), index, column, base, at)
                if run.end() == len(head) and not ended:
                    return "more", items
                return (opener if opener.length >= 3 else "prose"), items
            if head[index] == "<":
                return html_block_at(head[index:], ended=ended), items
            if ended and _BREAK.match(head, index):
                return "prose", items
            marker = _MARKER.match(head, index)
            if marker is None or (marker.end() == len(head) and not ended):
                return ("more" if not ended and _MARKER_PART.match(head, index) else "prose"), items
            index = marker.end()
            column = behind_marker = column + len(marker[0])
            items = [*items, column + 1]
            marked = True


# --- the inside of a fence ----------------------------------------------------------------------

_LINE_END: Final = re.compile(r"\r\n?|\n")
_BLANKS: Final = re.compile(r"[ \t]*")
_LEADING_BLANKS: Final = re.compile(r"^[ \t]+", re.MULTILINE)

# Where in a line: the last one cannot close the fence.
_IN_INDENT, _IN_RUN, _IN_TAIL, _IN_INFO, _IN_CONTENT = range(5)


def next_line(text: str, start: int) -> int:
    """Return the index behind the next line end at or after `start`, or -1."""
    end = _LINE_END.search(text, start)
    return end.end() if end else -1


class BodyReader:
    """Finds the closing fence of one opener, reading the text behind the opener's line in pieces.

    A closing fence has at least as many characters, nothing but blanks behind them, and at most three
    columns more indentation than the content of its list item. Unlike in CommonMark, a line with less
    indentation than the list item does not end the fence: models often forget to indent the code.

    :param nested: a fence of at least the same length with an info string opens an inner one, which a closing fence
        closes first: models write a README so, though CommonMark wants a longer fence around it.
    """

    __slots__ = (
        "_char",
        "_column",
        "_inner",
        "_left",
        "_length",
        "_most",
        "_nested",
        "_run",
        "_run_re",
        "_where",
    )

    def __init__(self, opener: Opener, *, nested: bool = False) -> None:
        self._char = opener.char
        self._length = opener.length
        self._most = opener.base + 3
        self._run_re = re.compile(f"{opener.char}*")
        self._where = _IN_INDENT
        self._column = self._run = 0
        self._nested = nested
        self._inner: list[int] = []  # lengths of the inner fences that are open
        self._left = False  # only blanks came since an inner fence was closed

    @property
    def in_content(self) -> bool:
        """True if the current line cannot be the closing one: only a line end matters next."""
        return self._where == _IN_CONTENT

    @property
    def ends(self) -> str | None:
        """A pattern for what can be the beginning of the closing line, with the character before it; or None."""
        if self._where == _IN_CONTENT or (self._where == _IN_INDENT and self._column == 0):
            return rf"\r|\n[ \t]*{self._char}|\n[ \t]+\Z"
        return None

    @property
    def in_closing_line(self) -> bool:
        """True if the current line, were the text to end here, would be the closing one, or the last one was.

        Of a fence in it that is never closed, the closing line was taken for that one's.
        """
        if self._where == _IN_TAIL or (self._where == _IN_RUN and self._run >= self._length):
            return self._inner == [] or self._run >= self._inner[-1]
        return self._left and self._where == _IN_INDENT

    def find_end(self, text: str, start: int) -> int:
        """Read on; return the index behind the closing line (and its line end), or -1 if it is not there."""
        index = start
        while True:
            if self._where == _IN_INFO:
                index = self._read_info(text, index)
            if self._where == _IN_CONTENT:
                index = next_line(text, index)
                if index < 0:
                    return -1
                self._where = _IN_INDENT
                self._column = self._run = 0
            if self._where == _IN_INDENT:
                index = self._skip_indent(text, index)
            if self._where == _IN_RUN:
                end = self._run_re.match(text, index).end()  # type: ignore[union-attr]  # matches always
                self._run += end - index
                index = end
                if index < len(text):
                    self._where = _IN_TAIL if self._run >= self._length else _IN_CONTENT
            if self._where == _IN_TAIL:
                index = _BLANKS.match(text, index).end()  # type: ignore[union-attr]  # matches always
                if index < len(text):
                    if text[index] not in "\r\n":
                        self._where = _IN_INFO if self._nested else _IN_CONTENT
                    elif self._closes():
                        return next_line(text, index)
                    else:
                        self._where = _IN_CONTENT
            if index == len(text):
                return -1

    def _closes(self) -> bool:
        """Deal with a closing line; True if it is this fence's, and not an inner one's."""
        if not self._inner:
            return True
        if self._run >= self._inner[-1]:
            self._inner.pop()
            self._left = True
        return False

    def _read_info(self, text: str, index: int) -> int:
        """Read an info string up to its line's end: it opens an inner fence, unless it is a code span."""
        end = _LINE_END.search(text, index)
        info = text[index : end.start() if end else len(text)]
        if self._char == "`" and "`" in info:
            self._where = _IN_CONTENT
        elif end:
            self._inner.append(self._run)
            self._where = _IN_CONTENT
        return index + len(info)

    def _skip_indent(self, text: str, index: int) -> int:
        while index < len(text) and text[index] in " \t" and self._column <= self._most:
            self._column = advance_column(self._column, text[index])
            index += 1
        if index < len(text):
            fence = text[index] == self._char and self._column <= self._most
            self._where = _IN_RUN if fence else _IN_CONTENT
            self._left = self._left and text[index] in "\r\n"
        return index


def goes_on(opener: Opener, text: str, *, ended: bool) -> bool | None:
    """Tell whether what comes directly behind a file belongs to it, so that a fence in the file was taken for its end.

    CommonMark cannot tell. It is probable if text stands on the very next line, and the first fence that follows is a
    bare one, as the end of an inner fence is. What begins with a fence is the next block.

    :param ended: whether no more text is looked at.
    :return: None if more text is needed.
    """
    first = text.lstrip(" \t")[:1]
    if not first:
        return False if ended else None
    if first in "\r\n`~":
        return False
    line_end = r"(?:[\r\n]|\Z)" if ended else r"[\r\n]"
    found = re.search(rf"[\r\n] {{0,3}}{opener.char}{{{opener.length},}}[ \t]*([^`\r\n]*){line_end}", text)
    if found is None:
        return False if ended else None
    return not found[1]


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

"""What Markdown makes of a place in an answer: whether a tag there is only quoted.

CommonMark 0.31, sections 4.4 to 4.6 (code and HTML), 5.1 and 5.2 (block quotes and list items), 6.1 and 6.6 (code spans
and HTML within a line). Columns count from 0. In doubt, a tag counts as quoted: a run of backticks is taken for the
beginning of a code span, up to the next run of its length or a blank line; so far reaches HTML within a line.
"""

from __future__ import annotations

import re
from typing import Final

from agentd.types import Block

__all__ = ["MarkdownContext"]

_ELEMENTS: Final = "pre|script|style|textarea"
_MARK: Final = re.compile(
    rf"\\[\\`<]|(?P<ticks>`+)|<(?P<raw>!--|\?|!\[CDATA\[|![a-z]|(?:{_ELEMENTS})(?=[\s>]|\Z))", re.IGNORECASE
)
_ENDS: Final = {
    raw: re.compile(end, re.IGNORECASE)
    for raw, end in (
        *(("!--", "-->"), ("?", r"\?>"), ("![cdata[", "]]>")),
        *((name, f"</{name}") for name in _ELEMENTS.split("|")),
    )
}
_DECLARATION_END: Final = re.compile(">")  # of all other HTML in _MARK
_FENCE: Final = re.compile(r"`{3,}(?=[^`]*\Z)|~{3,}")
_HEADING: Final = re.compile(r"#{1,6}(?=[ \t]|\Z)")
_MARKER: Final = re.compile(r"(?:[-+*]|\d{1,9}[.)])(?=[ \t]|\Z)")
_BREAK: Final = re.compile(r"(?:(?:-[ \t]*){3,}|(?:\*[ \t]*){3,})\Z")
_LINE_END: Final = re.compile(r"\r\n?|\n")
_LONGEST_HEAD: Final = 200  # characters in which list markers count
_QUOTED: Final = re.compile(r"[ \t]*(?:(?:[-+*]|\d{1,9}[.)])[ \t]+)*>")


class MarkdownContext:
    """Reads the text up to where a call may begin, each character once. Lines are judged by how they begin."""

    __slots__ = (
        *(
            "_base",
            "_begin",
            "_code",
            "_empty",
            "_end",
            "_fence",
            "_fresh",
            "_heading",
            "_hidden",
            "_in_block",
            "_items",
        ),
        *(
            "_alone",
            "_lazy",
            "_opens",
            "_pieces",
            "_quoted",
            "_raw_line",
            "_ticks",
            "_unopened",
            "add",
            "lost",
        ),
    )

    def __init__(self) -> None:
        self._pieces: list[str] = []  # not looked at yet
        self._items: list[int] = []  # where the content of the open list items begins, outermost first
        self._empty = False  # the last of them has only its marker, and is over with a blank line
        self._fresh = True  # nothing of the line was looked at
        self._code = False  # it is indented code, unless it goes on with a paragraph
        self._unopened = True  # no paragraph is there that it could go on with
        self._alone = False  # it is none of a paragraph: indented code, or the end of a fence
        self._quoted = False  # it is in a block quote
        self._heading = False  # it is a heading
        self._raw_line = False  # HTML that began a line has ended in it
        self._lazy = False  # a line of this paragraph was, and so are the others (CommonMark 5.1)
        self._ticks = 0  # length of the run of backticks that a code span began with
        self._end: re.Pattern[str] | None = None  # ends the HTML that this is in
        self._fence = ""  # what the fence that this is in began with
        self._opens = False  # the line is the one that opens it
        self._in_block = False  # these two began a line: they end with the list item, not with a blank line
        self._base = 0  # the column of that item's content
        self._begin = ""  # what the HTML began with
        self._hidden: Block | None = None  # the first call in it
        self.lost: Block | None = None
        """The first call behind HTML that was never closed."""
        self.add = self._pieces.append
        """Take the next characters of the text."""

    @property
    def in_html(self) -> bool:
        """True if raw HTML has begun whose end did not come yet."""
        return self._end is not None

    def behind_block(self) -> MarkdownContext:
        """Return what goes on behind a block, in the middle of a line."""
        context = MarkdownContext()
        context._items, context._fresh, context._unopened = self._items, False, False
        context.lost = self.lost
        return context

    def note_hidden(self, target: str, action: str) -> None:
        """Note that `quotes` was true of a call: it is lost if that is for HTML which is never closed."""
        if self._end is not None and self._hidden is None:
            reason = f"it stands behind {self._begin!r}, HTML that is never closed"
            self._hidden = Block.of(target, action, "", reason=reason)

    def _leave_html(self) -> None:
        """HTML is over that was not closed."""
        self.lost, self._hidden, self._end = self.lost or self._hidden, None, None

    def close(self) -> None:
        """End the text: see what was lost."""
        self.quotes(indented=False)
        self._leave_html()

    def quotes(self, *, indented: bool) -> bool:
        """True if a tag here is in code, a block quote or raw HTML; in indented code only if `indented`."""
        text = "".join(self._pieces)
        self._pieces.clear()
        start = 0
        for end in _LINE_END.finditer(text):
            self._take(text[start : end.start()], ended=True)
            self._end_line()
            start = end.end()
        self._take(text[start:], ended=False)
        if self._ticks or self._end or self._fence or self._quoted or self._lazy:
            return True
        return indented and self._code

    def _take(self, part: str, *, ended: bool) -> None:
        """Read on in a line. Its first part has all of its indentation: what comes next is a `<` if not `ended`."""
        at = 0
        if self._fresh and (part.strip(" \t") or not ended):
            self._fresh = False
            at = self._begin_line(part, ended)
        elif self._fence[:1] == "`" and self._opens and "`" in part:
            self._fence, self._ticks, self._in_block = "", len(self._fence), False  # no fence, but code spans
        self._opens = self._opens and not ended
        if not (self._fence or self._quoted or self._alone):
            self._read(part, at)

    def _begin_line(self, part: str, ended: bool) -> int:
        """Judge a line that is not blank; return where its content begins."""
        index, column = _skip_blanks(part, 0, 0)
        if self._in_block and (self._end or self._fence):
            if column >= self._base:
                if not (ended and column - self._base < 4 and self._closes_fence(part[index:])):
                    return 0
                self._fence, self._alone = "", True
                return len(part)
            self._fence = ""
            self._leave_html()
        self._quoted = _QUOTED.match(part) is not None
        if self._quoted:
            self._ticks = 0
            self._leave_html()
        self._items = [item for item in self._items if item <= column]
        index, column = self._read_markers(part, index, column, ended)
        base = self._items[-1] if self._items else 0
        self._code = column - base >= 4
        self._alone = self._code and self._unopened
        fence = None if self._code or self._quoted else _FENCE.match(part, index)
        mark = None if self._code else _MARK.match(part, index)
        if fence:
            self._fence, self._opens = fence[0], True
        self._in_block, self._base = bool(fence or (mark and mark["raw"])), base
        self._heading = not self._code and _HEADING.match(part, index) is not None
        if self._in_block or self._heading:
            self._ticks = 0  # a paragraph ends here
            self._leave_html()
        return index

    def _read_markers(self, part: str, index: int, column: int, ended: bool) -> tuple[int, int]:
        """Open the list items that begin here; return where their content does, and its column."""
        self._empty = False
        while index < _LONGEST_HEAD and column - (self._items[-1] if self._items else 0) < 4:
            marker = _MARKER.match(part, index)
            is_break = ended and len(part) <= _LONGEST_HEAD and _BREAK.match(part, index)
            if marker is None or is_break or (marker.end() == len(part) and not ended):
                break
            behind = column + len(marker[0])
            index, column = _skip_blanks(part, marker.end(), behind)
            self._empty = index == len(part) and ended
            self._items.append(behind + 1 if self._empty or column > behind + 4 else column)
        return index, column

    def _closes_fence(self, line: str) -> bool:
        run = line.rstrip(" \t")
        return bool(self._fence) and run.startswith(self._fence) and not run.strip(self._fence[0])

    def _read(self, part: str, at: int) -> None:
        """Follow code spans and HTML through a part of a line."""
        while True:
            if self._end is not None:
                end = self._end.search(part, at)
                if end is None:
                    return
                self._raw_line = self._raw_line or self._in_block
                self._end, self._hidden, self._in_block, at = None, None, False, end.end()
            mark = _MARK.search(part, at)
            if mark is None:
                return
            at = mark.end()
            if self._ticks and part.startswith("\\`", mark.start()):
                at = mark.start() + 1  # in a code span, a backslash is a backslash
            elif mark["ticks"] and not self._raw_line:
                length = len(mark[0])
                self._ticks = length if not self._ticks else 0 if length == self._ticks else self._ticks
            elif mark["raw"] and not self._ticks:
                self._end, self._begin = _ENDS.get(mark["raw"].lower(), _DECLARATION_END), mark[0]
                at = mark.start() + 1  # `<!-->` and `<?>` are whole

    def _end_line(self) -> None:
        if self._fresh or self._heading:
            self._ticks, self._lazy = 0, self._lazy and self._heading
            if not self._in_block:
                self._leave_html()
        if self._fresh and self._empty:
            self._items.pop()
        self._empty = self._empty and not self._fresh
        self._lazy = self._lazy or self._quoted
        in_html = self._raw_line or (self._in_block and self._end is not None)
        self._unopened = self._fresh or self._heading or self._alone or bool(self._fence) or in_html
        self._fresh = True
        self._code = self._alone = self._quoted = self._heading = self._raw_line = False


def _skip_blanks(part: str, index: int, column: int) -> tuple[int, int]:
    """Return index and column of the first character from `index` on that is neither a space nor a tab."""
    while index < len(part) and part[index] in " \t":
        column += 4 - column % 4 if part[index] == "\t" else 1
        index += 1
    return index, column

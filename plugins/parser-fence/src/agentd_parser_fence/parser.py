"""The fence parser: CommonMark's fenced code blocks, of which those with a header are to be run.

A fence whose info string is a header (`bash:execute`, `PATH:create`; see `header.header_of`) becomes one
`block` segment, once its closing line is certain. Every other fence is `opaque`: shown as it comes, and
nothing inside it is a block. So are comments of HTML and its elements with raw text (`<pre>`, say). Fences in its other
elements, up to a blank line, in block quotes and in indented code are prose. Line ends are LF, CRLF and CR.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Literal

from agentd.types import Block, Segment, SegmentKind

from agentd_parser_fence.fence import (
    BodyReader,
    LineStart,
    Opener,
    advance_column,
    code_of,
    goes_on,
    next_line,
)
from agentd_parser_fence.header import bare_header_of, header_of, may_have_fences
from agentd_parser_fence.html_block import LONGEST_END, HtmlBlock, UnclosedHtml

__all__ = ["LONGEST_LOOK", "LONGEST_OPENER", "FenceParser"]

LONGEST_OPENER: Final = 4096
"""Characters of the longest line that opens a fence; a longer one is prose, so that little is held back."""
LONGEST_LOOK: Final = 4096
"""Characters that are read behind a Markdown file to find out whether it goes on."""

_MAY_MATTER: Final = frozenset(" \t`~-+*0123456789<")  # as the first character of a line outside of lists
_BLANKS: Final = re.compile(r"[ \t]*")
_STOPS: Final = r"\r|\n[ \t`~\-+*0-9<]"

# Where the parser is: at the beginning of a line, inside a line of prose, inside the line of an opening
# fence, inside a fence that is shown, inside one that is to be run, inside raw HTML, at the beginning of a line of it
# in a list item, in the line that ends it, behind a block that may go on, and behind a bare fence that may be the end.
_LINE_START, _PROSE, _OPENER, _OPAQUE, _BLOCK, _HTML, _HTML_LINE_START, _HTML_END, _BEHIND, _BEHIND_BARE = (
    range(10)
)


class FenceParser:
    """Reads one answer; see `agentd.protocols.Parser`.

    Held back are: the beginning of a line that may open a fence, the line of an opening fence (up to
    `LONGEST_OPENER` characters), a block until its closing line has ended (a Markdown file until it is known whether it
    goes on behind that, a bare fence until it is known whether it is the end), and a CR until it is known whether an LF
    follows.

    :param bare: when a fence with a language but no action, as `bash` alone, is a block: never, if the answer ends
        with it (`last`), or if it also has no such fence and no block before it (`only`).
    """

    __slots__ = (
        "_bare",
        "_behind",
        "_body",
        "_cr",
        "_header",
        "_held",
        "_held_chars",
        "_html",
        "_html_text",
        "_in_line",
        "_info_at",
        "_is_bare",
        "_line",
        "_opener",
        "_out",
        "_position",
        "_prose",
        "_recent",
        "_where",
    )

    _body: BodyReader
    _header: tuple[str, str]
    _html: HtmlBlock
    _opener: Opener

    def __init__(self, *, bare: Literal["never", "last", "only"] = "never") -> None:
        self._bare = bare
        self._is_bare = False  # whether the fence that is being read is one, which may be a block
        self._where = _LINE_START
        self._line = LineStart()
        self._position = 0  # of the first character that is not in a segment yet
        self._prose: list[str] = []  # from there on, goes out before this feed is over
        self._out: list[Segment] = []
        self._held: list[str] = []  # behind it, is held back
        self._held_chars = 0  # of the opener's line
        self._behind = ""  # what came behind a held block
        self._info_at = 0  # where in it the info string begins
        self._cr = False  # a CR, also held back
        self._recent = ""  # the last of raw HTML, in which its end may have begun
        self._html_text = UnclosedHtml()
        self._in_line = False  # only a line end can change anything, and no CR is held

    @property
    def stops(self) -> str | None:
        """What can make more than prose of the text that comes next; see `ParserStack`."""
        if self._cr or self._held or self._where not in (_PROSE, _LINE_START):
            return None
        if self._line.items:
            return r"[\r\n]" if self._where == _PROSE else None
        return _STOPS

    @property
    def holds(self) -> str | None:
        """What can end the block of which the text comes next; see `ParserStack`."""
        return None if self._cr or self._where != _BLOCK else self._body.ends

    @property
    def draft(self) -> tuple[str, str, int] | None:
        """The block that is being read; see `agentd.protocols.DraftingParser`."""
        if self._where != _BLOCK or self._is_bare:
            return None
        return (*self._header, self._position + self._held_chars)

    def feed(self, text: str) -> Sequence[Segment]:
        """Take the next characters; return the segments that are certain now."""
        if self._in_line and "\n" not in text and "\r" not in text:  # by far the most frequent case
            if self._where == _BLOCK:
                self._held.append(text)
                return ()
            if not text:
                return ()
            start = self._position
            self._position = end = start + len(text)
            return (Segment("prose" if self._where == _PROSE else "opaque", text, start, end),)
        if self._is_line(text):
            self._where = _LINE_START
            self._in_line = False
            start = self._position
            self._position = end = start + len(text)
            return (Segment("prose", text, start, end),)
        if self._cr:
            text = "\r" + text
        self._cr = text.endswith("\r")
        segments = self._read(text[:-1] if self._cr else text)
        self._in_line = not self._cr and (
            self._where == _PROSE or (self._where in (_OPAQUE, _BLOCK) and self._body.in_content)
        )
        return segments

    def close(self) -> Sequence[Segment]:
        """End the text; return the segments of what was still held back."""
        self._out = self._read("\r" if self._cr else "", ended=True)
        self._cr = False
        if self._where in (_LINE_START, _HTML_LINE_START) and self._held:
            self._close_line_start()
        if self._where == _OPENER:
            self._open()
        if self._where == _BLOCK:
            closed = self._body.in_closing_line
            self._finish(closed=closed, complete=closed)
        if (hidden := self._html_text.leave()) is not None:
            self._emit("block", "", hidden)
        return self._take_out()

    def _is_line(self, text: str) -> bool:
        """True if this ends the line that is being read, in prose, and nothing follows. Spares `_read`."""
        if self._where != _PROSE or not self._in_line or "\r" in text:
            return False
        return text.find("\n") == len(text) - 1

    def _read(self, text: str, *, ended: bool = False) -> list[Segment]:
        text, self._behind = self._behind + text, ""
        index = 0
        while index < len(text) or (ended and self._where in (_BEHIND, _BEHIND_BARE)):
            if self._where == _PROSE:
                index = self._read_prose(text, index)
            elif self._where == _LINE_START:
                index = self._read_line_start(text, index)
            elif self._where == _OPENER:
                index = self._read_opener(text, index)
            elif self._where == _OPAQUE:
                index = self._read_opaque(text, index)
            elif self._where == _HTML:
                index = self._read_html(text, index)
            elif self._where == _HTML_LINE_START:
                index = self._read_html_line_start(text, index)
            elif self._where == _HTML_END:
                index = self._read_html_end(text, index)
            elif self._where == _BEHIND:
                index = self._look_behind(text, index, ended=ended)
            elif self._where == _BEHIND_BARE:
                index = self._look_behind_bare(text, index, ended=ended)
            else:
                index = self._read_block(text, index)
        return self._take_out()

    # --- each of these reads from `index` on and returns how far it came -----------------------

    def _read_prose(self, text: str, index: int) -> int:
        end = next_line(text, index)
        self._where = _LINE_START if end >= 0 else _PROSE
        end = end if end >= 0 else len(text)
        self._prose.append(text[index:end])
        return end

    def _read_line_start(self, text: str, index: int) -> int:
        if not (self._held or self._line.items or text[index] in _MAY_MATTER):
            self._where = _PROSE
            return index
        end = next_line(text, index)
        ended = end >= 0
        piece = text[index : end if ended else len(text)]
        line = "".join(self._held) + piece
        head = line.rstrip("\r\n")
        verdict = self._line.read(head, ended=ended)
        if isinstance(verdict, Opener):
            self._start_opener(verdict, head)
            return index + len(piece) - (len(line) - len(head))
        if isinstance(verdict, HtmlBlock):
            self._start_html(verdict, line)
        elif verdict == "more":
            self._held.append(piece)
        else:
            self._give_up(line, ended)
        return index + len(piece)

    def _read_opener(self, text: str, index: int) -> int:
        end = next_line(text, index)
        ended = end >= 0
        end = end if ended else len(text)
        piece = text[index:end]
        self._held.append(piece)
        self._held_chars += len(piece.rstrip("\r\n"))
        ticks = self._opener.char == "`" and "`" in piece  # then this is a code span, not a fence
        if ticks or self._held_chars > LONGEST_OPENER:
            self._give_up("".join(self._held), ended)
        elif ended:
            self._open()
        return end

    def _read_opaque(self, text: str, index: int) -> int:
        end = self._body.find_end(text, index)
        if end >= 0:
            self._where = _LINE_START
        end = end if end >= 0 else len(text)
        self._emit("opaque", text[index:end])
        return end

    def _read_html(self, text: str, index: int) -> int:
        if self._html.end is None:
            return self._read_html_line(text, index)
        end = next_line(text, index) if self._line.base else -1
        ended = end >= 0
        end = end if ended else len(text)
        seen = self._recent + text[index:end]
        found = self._html.end.search(seen)
        if found is not None:
            self._where = _HTML_END
            self._html_text.pieces.clear()
            end = index + max(0, found.end() - len(self._recent))
        elif ended:
            self._where, self._recent = _HTML_LINE_START, ""
        else:
            self._recent = seen[-LONGEST_END:]
        if end > index:
            self._emit_html(text[index:end])
        return end

    def _read_html_line(self, text: str, index: int) -> int:
        """Read a line of HTML that lasts up to a blank one. A parser of calls in XML may find some in it."""
        end = next_line(text, index)
        line = text[index : end if end >= 0 else len(text)]
        self._recent = self._recent or line.strip(" \t\r\n")[:1]  # empty as long as the line is blank
        if end >= 0:
            self._where = (_HTML_LINE_START if self._line.base else _HTML) if self._recent else _LINE_START
            self._recent = ""
        self._prose.append(line)
        return index + len(line)

    def _read_html_line_start(self, text: str, index: int) -> int:
        """Read the indentation of a line behind HTML in a list item: both are over where there is too little of it."""
        end = _BLANKS.match(text, index).end()  # type: ignore[union-attr]  # matches always
        blanks = "".join(self._held) + text[index:end]
        column = 0
        for char in blanks:
            column = advance_column(column, char)
        self._held = [blanks]
        if column >= self._line.base or text.startswith(("\r", "\n"), end):
            self._held.clear()
            self._where = _HTML
            if self._html.end is None:
                self._prose.append(blanks)
            elif blanks:
                self._emit_html(blanks)
        elif end < len(text):
            self._html_text.leave()
            self._where = _LINE_START
        return end

    def _read_html_end(self, text: str, index: int) -> int:
        end = next_line(text, index)
        if end >= 0:
            self._where = _LINE_START
        end = end if end >= 0 else len(text)
        self._emit("opaque", text[index:end])
        return end

    def _read_block(self, text: str, index: int) -> int:
        end = self._body.find_end(text, index)
        if end < 0:
            self._held.append(text[index:])
            return len(text)
        self._held.append(text[index:end])
        if self._is_bare:
            self._where = _BEHIND_BARE
        elif may_have_fences(self._header):
            self._where = _BEHIND
        else:
            self._finish(closed=True, complete=True)
        return end

    def _look_behind(self, text: str, index: int, *, ended: bool) -> int:
        """Find out whether the held block goes on, and is not complete then."""
        seen = text[index : index + LONGEST_LOOK]
        cut = goes_on(self._opener, seen, ended=ended or len(seen) == LONGEST_LOOK)
        if cut is None:
            self._behind = text[index:]
            return len(text)
        self._finish(closed=True, complete=not cut)
        return index

    def _look_behind_bare(self, text: str, index: int, *, ended: bool) -> int:
        """Find out whether the held bare fence is the end of the answer: then it is a block."""
        seen = text[index : index + LONGEST_LOOK]
        is_end = not seen.strip() and len(seen) < LONGEST_LOOK
        if is_end and not ended:
            self._behind = text[index:]
            return len(text)
        if is_end:
            self._finish(closed=True, complete=True)
        else:
            self._is_bare, self._where = False, _LINE_START
            self._emit("opaque", "".join(self._held))
            self._held.clear()
        return index

    # --- from one state to the next ------------------------------------------------------------

    def _give_up(self, line: str, ended: bool) -> None:
        """What is held of this line is prose after all."""
        self._held.clear()
        self._prose.append(line)
        self._where = _LINE_START if ended else _PROSE

    def _start_opener(self, opener: Opener, head: str) -> None:
        if opener.at:
            self._prose.append(head[: opener.at])
        self._opener = opener
        self._held = [head[opener.at :]]
        self._held_chars = len(head) - opener.at
        self._info_at = opener.index + opener.length - opener.at
        self._where = _OPENER
        ticks = opener.char == "`" and "`" in self._held[0][self._info_at :]
        if ticks or self._held_chars > LONGEST_OPENER:
            self._give_up(self._held[0], ended=False)

    def _start_html(self, html: HtmlBlock, line: str) -> None:
        """Begin raw HTML with the beginning of its first line, perhaps with all of it."""
        self._held.clear()
        self._html, self._where, self._recent = html, _HTML, ""
        index = line.index("<") + 1 if html.end else 0
        if index:
            self._emit("opaque", line[:index])
            self._html_text.pieces.append("<")
        while index < len(line):
            read = self._read_html if self._where == _HTML else self._read_html_end
            index = read(line, index)

    def _open(self) -> None:
        """The line of the opening fence is complete: decide what the fence is for."""
        line = "".join(self._held)
        info = line[self._info_at :].rstrip("\r\n")
        header = header_of(info)
        if header is None and self._bare != "never":
            header = bare_header_of(info)
            self._is_bare = header is not None
        if header is not None and self._bare == "only":
            self._bare = "never"
        self._body = BodyReader(self._opener, nested=header is not None and header[1] == "create")
        if header is None:
            self._held.clear()
            self._emit("opaque", line)
            self._where = _OPAQUE
        else:
            self._held = [line]
            self._held_chars = len(line)
            self._header = header
            self._where = _BLOCK

    def _finish(self, *, closed: bool, complete: bool) -> None:
        """Return the block that is held; its last line is the closing one if it is closed."""
        text = "".join(self._held)
        self._held.clear()
        self._where = _LINE_START
        end = len(text)
        if closed:
            lines = text.rstrip()
            end = max(lines.rfind("\n"), lines.rfind("\r")) + 1
        code = code_of(self._opener, text[self._held_chars : end])
        target, action = self._header
        self._emit("block", text, Block.of(target, action, code, complete=complete))

    def _close_line_start(self) -> None:
        head = "".join(self._held)
        verdict = self._line.read(head, ended=True)
        if isinstance(verdict, Opener):
            self._start_opener(verdict, head)
        elif isinstance(verdict, HtmlBlock):
            self._start_html(verdict, head)
        else:
            self._give_up(head, ended=False)

    # --- what goes out -------------------------------------------------------------------------

    def _emit(self, kind: SegmentKind, text: str, block: Block | None = None) -> None:
        if self._prose and kind != "prose":
            self._emit_prose()
        start = self._position
        self._position = start + len(text)
        self._out.append(Segment(kind, text, start, self._position, block))

    def _emit_html(self, text: str) -> None:
        if self._where != _HTML_END:
            self._html_text.pieces.append(text)
        self._emit("opaque", text)

    def _emit_prose(self) -> None:
        text = "".join(self._prose)
        self._prose.clear()
        self._emit("prose", text)

    def _take_out(self) -> list[Segment]:
        if self._prose:
            self._emit_prose()
        out, self._out = self._out, []
        return out

"""The XML parser: function calls as some models write them, with a header as the call's name.

    <function_calls>
    <invoke name="bash:execute">
    <parameter name="command">ls -la</parameter>
    </invoke>
    </function_calls>

Tags may have a namespace prefix. The wrapper around calls may be missing; where it is there, its opening
tag belongs to the first block's segment and its closing tag to the last one's, so that between two blocks
of one wrapper there are only blanks. A call whose name is no header (`read_header`) is prose, and so is
one that Markdown would only show: in a code span, in a block quote (also in a list, and in the lines behind one up
to a blank line), in a comment, a `<pre>`, `<?...?>` or CDATA of HTML, or indented by four columns outside of a wrapper.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from agentd.notation import read_header
from agentd.types import Block, Segment, SegmentKind

from agentd_parser_xml.call import NAMESPACE, CallReader, attribute_name
from agentd_parser_xml.markdown import MarkdownContext

__all__ = ["LONGEST_OPENER", "XmlParser"]

LONGEST_OPENER: Final = 1024
"""Characters of the longest opening (wrapper, blanks and the tag of the call) that is taken for one."""


def _prefix_of(word: str, then: str = "") -> str:
    """Return a pattern for every beginning of `word`, and for all of it followed by `then`."""
    pattern = then
    for char in reversed(word):
        pattern = f"(?:{char}{pattern})?"
    return pattern


_WRAPPERS: Final = ("function_calls", "tool_calls")
_ANY_WRAPPER: Final = f"(?:{'|'.join(_WRAPPERS)})"
_WRAPPER_OPEN: Final = rf"<{NAMESPACE}{_ANY_WRAPPER}\s*>\s*"
_OPENER: Final = re.compile(rf"(?P<wrapper>{_WRAPPER_OPEN})?<{NAMESPACE}invoke(?P<attributes>\s[^<>]*)>")
_SOME_NAME: Final = r"[A-Za-z_][A-Za-z0-9_.-]{0,39}"  # it may turn out to be a namespace
_WRAPPER_PARTS: Final = "|".join(_prefix_of(word, r"\s*") for word in _WRAPPERS)
_INVOKE_PART: Final = _prefix_of("invoke", r"(?:\s[^<>]*)?")
_CALL_PART: Final = f"(?:{NAMESPACE}{_INVOKE_PART}|{_SOME_NAME})"
_OPENER_PART: Final = re.compile(
    rf"<(?:{NAMESPACE}(?:{_WRAPPER_PARTS})|{_CALL_PART})|{_WRAPPER_OPEN}(?:<{_CALL_PART})?"
)
_CLOSER: Final = re.compile(rf"\s*</{NAMESPACE}{_ANY_WRAPPER}\s*>")
_CLOSER_PART: Final = re.compile(rf"\s*(?:<(?:/(?:{NAMESPACE}(?:{_WRAPPER_PARTS})|{_SOME_NAME})?)?)?")

_PROSE, _CALL, _AFTER = range(3)  # the last: behind a call in a wrapper, which may close now


class XmlParser:
    """Reads one answer; see `agentd.protocols.Parser`.

    Held back are: what may become an opening (up to `LONGEST_OPENER` characters), a call until it ends,
    and a call in a wrapper until the next tag tells whether the wrapper closes.
    """

    __slots__ = ("_block", "_call", "_line", "_opening", "_position", "_tail", "_where", "_wrapped")

    _block: Segment
    _call: CallReader

    def __init__(self) -> None:
        self._where = _PROSE
        self._position = 0  # of the first character that is not in a segment yet
        self._tail = ""  # held back, outside of a call
        self._opening = ""  # the tags in front of the call that is being read
        self._wrapped = False
        self._line = MarkdownContext()

    @property
    def stops(self) -> str | None:
        """What can make more than prose of the text that comes next; see `ParserStack`."""
        if self._where != _PROSE or self._tail or self._line.in_html:  # the end of that has no such beginning
            return None
        return r"<(?:[A-Za-z_]|\Z)"

    @property
    def holds(self) -> str | None:
        """What can end the call of which the text comes next; see `ParserStack`."""
        return ">" if self._where == _CALL else None

    @property
    def draft(self) -> tuple[str, str, int] | None:
        """The block that is being read; see `agentd.protocols.DraftingParser`."""
        if self._where != _CALL or (start := self._call.code_start) is None:
            return None
        return (*self._call.header, self._position + len(self._opening) + start)

    def feed(self, text: str) -> Sequence[Segment]:
        """Take the next characters; return the segments that are certain now."""
        if self._where == _CALL and ">" not in text:
            self._call.hold(text)  # by far the most frequent case
            return ()
        if self._where == _PROSE and not self._tail and "<" not in text:
            if not text:
                return ()
            self._line.add(text)
            start = self._position
            self._position = start + len(text)
            return (Segment("prose", text, start, self._position),)
        out: list[Segment] = []
        text = self._tail + text
        self._tail = ""
        index = 0
        while index < len(text):
            if self._where == _PROSE:
                index = self._read_prose(text, index, out)
            elif self._where == _CALL:
                index = self._read_call(text, index, out)
            else:
                index = self._read_after(text, index, out)
        return out

    def close(self) -> Sequence[Segment]:
        """End the text; return the segments of what was still held back."""
        out: list[Segment] = []
        if self._where == _CALL:
            self._finish_call(out, complete=False)
        elif self._where == _AFTER:
            out.append(self._block)
        if self._tail:
            self._emit("prose", self._tail, out)
            self._line.add(self._tail)
            self._tail = ""
        self._line.close()
        if self._line.lost is not None:
            self._emit("block", "", out, self._line.lost)
        self._where = _PROSE
        return out

    # --- each of these reads from `index` on and returns how far it came -----------------------

    def _read_prose(self, text: str, index: int, out: list[Segment]) -> int:
        """Read up to an opening, or to what may become one (and stays in the tail)."""
        seen = index
        at = text.find("<", index)
        while at >= 0:
            self._line.add(text[seen:at])
            seen = at
            opening = _OPENER.match(text, at)
            if opening is not None:
                if opening.end() - at <= LONGEST_OPENER and self._start(opening):
                    self._emit("prose", text[index:at], out)
                    return opening.end()
            elif len(text) - at <= LONGEST_OPENER and _OPENER_PART.fullmatch(text, at):
                self._emit("prose", text[index:at], out)
                self._tail = text[at:]
                return len(text)
            at = text.find("<", at + 1)
        self._line.add(text[seen:])
        self._emit("prose", text[index:], out)
        return len(text)

    def _read_call(self, text: str, index: int, out: list[Segment]) -> int:
        length = self._call.read(text[index:])
        if length < 0:
            return len(text)
        self._finish_call(out, complete=True)
        return index + length

    def _read_after(self, text: str, index: int, out: list[Segment]) -> int:
        """Decide whether the wrapper closes directly behind the call; then it is the block's."""
        block = self._block
        closer = _CLOSER.match(text, index)
        if closer is not None and closer.end() - index <= LONGEST_OPENER:
            self._wrapped = False
            whole = block.text + closer[0]
            block = Segment("block", whole, block.start, block.start + len(whole), block.block)
            index = closer.end()
        elif len(text) - index <= LONGEST_OPENER and _CLOSER_PART.fullmatch(text, index):
            self._tail = text[index:]
            return len(text)
        out.append(block)
        self._position = block.end
        self._where = _PROSE
        return index

    # --- from one state to the next ------------------------------------------------------------

    def _start(self, opening: re.Match[str]) -> bool:
        """Begin a call, if this opening is one that counts."""
        header = read_header(attribute_name(opening["attributes"]))
        if header is None or opening["attributes"].endswith("/"):
            return False
        if self._line.quotes(indented=not self._wrapped):
            self._line.note_hidden(*header)
            return False
        self._call = CallReader(header)
        self._opening = opening[0]
        self._wrapped = self._wrapped or bool(opening["wrapper"])
        self._where = _CALL
        return True

    def _finish_call(self, out: list[Segment], *, complete: bool) -> None:
        block = self._call.block(complete=complete)
        text = self._opening + self._call.text
        self._line = self._line.behind_block()
        if complete and self._wrapped:
            self._block = Segment("block", text, self._position, self._position + len(text), block)
            self._position += len(text)
            self._where = _AFTER
        else:
            self._emit("block", text, out, block)
            self._where = _PROSE

    def _emit(self, kind: SegmentKind, text: str, out: list[Segment], block: Block | None = None) -> None:
        if text or block:
            start = self._position
            self._position = start + len(text)
            out.append(Segment(kind, text, start, self._position, block))

"""HTML blocks: how one begins and ends, so that no fence in it is run, and what one hides that is never closed.

CommonMark 0.31, section 4.6. Of its seven kinds, the last is left out (a line with nothing but a tag that HTML does not
know): models put tags of their own around what they want to run.
"""

from __future__ import annotations

import re
from typing import Final, Literal

import attrs
from agentd.notation import read_header
from agentd.types import Block

from agentd_parser_fence.header import header_of

__all__ = ["LONGEST_END", "HtmlBlock", "UnclosedHtml", "html_block_at"]

_RAW: Final = "pre|script|style|textarea"
_KNOWN: Final = (
    "address|article|aside|base|basefont|blockquote|body|caption|center|col|colgroup|dd|details|dialog|dir|div|dl|dt"
    "|fieldset|figcaption|figure|footer|form|frame|frameset|h[1-6]|head|header|hr|html|iframe|legend|li|link|main|menu"
    "|menuitem|nav|noframes|ol|optgroup|option|p|param|search|section|summary|table|tbody|td|tfoot|th|thead|title|tr"
    "|track|ul"
)
_PART: Final = re.compile(r"<(?:!(?:-|\[[a-z]{0,5})?|/?(?:[a-z][a-z0-9]{0,9})?/?)?", re.IGNORECASE)
LONGEST_END: Final = len("</textarea>")
_BEGIN: Final = re.compile(r"<(?:[?]|!\[CDATA\[|!--|!|[a-z]+)", re.IGNORECASE)
_HIDDEN: Final = re.compile(  # an opening fence, or a call in XML, which no other parser sees here
    r"^[ \t]*(?P<run>`{3,}|~{3,})(?P<info>[^\r\n]*)\r?\n?"
    r"""|<(?:[\w.-]+:)?invoke\s[^<>]*?name\s*=\s*["']?(?P<name>[^"'<>]*)[^<>]*>""",
    re.MULTILINE,
)


@attrs.frozen
class HtmlBlock:
    """One kind of HTML block: it goes up to the end of the line in which `end` is found, or to a blank line."""

    begin: re.Pattern[str]
    end: re.Pattern[str] | None


_KINDS: Final = tuple(
    HtmlBlock(re.compile(begin, re.IGNORECASE), re.compile(end, re.IGNORECASE) if end else None)
    for begin, end in (
        (rf"<(?:{_RAW})(?:[ \t>]|\Z)", f"</(?:{_RAW})>"),
        ("<!--", "-->"),
        (r"<\?", r"\?>"),
        (r"<![a-z]", ">"),
        (r"<!\[CDATA\[", "]]>"),
        (rf"</?(?:{_KNOWN})(?:[ \t>]|/>|\Z)", ""),
    )
)


def html_block_at(head: str, *, ended: bool) -> HtmlBlock | Literal["prose", "more"]:
    """Judge a line from its first `<` on; `more` if the next characters decide.

    :param ended: whether the line ends behind it.
    """
    if not ended and _PART.fullmatch(head):
        return "more"
    return next((kind for kind in _KINDS if kind.begin.match(head)), "prose")


@attrs.define
class UnclosedHtml:
    """The text of raw HTML, from its first `<` on, whose end has not come."""

    pieces: list[str] = attrs.field(factory=list)
    _hidden: Block | None = None

    def leave(self) -> Block | None:
        """It is over, with what is around it; return the first block that such HTML has hidden."""
        if self.pieces:
            self._hidden = self._hidden or _hidden_block("".join(self.pieces))
            self.pieces.clear()
        return self._hidden


def _hidden_block(html: str) -> Block | None:
    """Return the first block that would be run, were it not for the HTML in front of it, which is never closed.

    :param html: the text from its first `<` on.
    """
    for found in _HIDDEN.finditer(html):
        header = header_of(found["info"]) if found["run"] else read_header(found["name"].strip())
        if header is not None:
            begin = _BEGIN.match(html)
            reason = f"it stands behind {begin[0] if begin else '<'!r}, HTML that is never closed"
            end = re.compile(rf"^[ \t]*{found['run']}" if found["run"] else "</", re.MULTILINE).search(
                html, found.end()
            )
            return Block.of(*header, html[found.end() : end.start() if end else None], reason=reason)
    return None

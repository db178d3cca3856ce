"""HTML blocks: how one begins and ends, so that no fence in it is run.

CommonMark 0.31, section 4.6. Of its seven kinds, the last is left out (a line with nothing but a tag that HTML does not
know): models put tags of their own around what they want to run.
"""

from __future__ import annotations

import re
from typing import Final, Literal

import attrs

__all__ = ["LONGEST_END", "HtmlBlock", "html_block_at"]

_RAW: Final = "pre|script|style|textarea"
_KNOWN: Final = (
    "address|article|aside|base|basefont|blockquote|body|caption|center|col|colgroup|dd|details|dialog|dir|div|dl|dt"
    "|fieldset|figcaption|figure|footer|form|frame|frameset|h[1-6]|head|header|hr|html|iframe|legend|li|link|main|menu"
    "|menuitem|nav|noframes|ol|optgroup|option|p|param|search|section|summary|table|tbody|td|tfoot|th|thead|title|tr"
    "|track|ul"
)
_PART: Final = re.compile(r"<(?:!(?:-|\[[a-z]{0,5})?|/?(?:[a-z][a-z0-9]{0,9})?/?)?", re.IGNORECASE)
LONGEST_END: Final = len("</textarea>")


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

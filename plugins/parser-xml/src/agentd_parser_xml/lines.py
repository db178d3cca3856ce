"""What stands in front of a tag on its line: whether Markdown would only show the tag."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["LinePrefix"]

_TICKS: Final = re.compile("`+")
_LEAD: Final = 5  # characters at the beginning of a line that decide what kind of line it is


class LinePrefix:
    """The current line up to here, condensed: reading a long line stays linear in its length."""

    __slots__ = ("_blank", "_in_code", "_lead", "_pieces")

    def __init__(self) -> None:
        self._pieces: list[str] = []  # not looked at yet
        self._lead = ""
        self._blank = True
        self._in_code = False

    def restart(self) -> None:
        """Go on in the middle of a line, behind a block."""
        self._pieces.clear()
        self._lead = "-" * _LEAD
        self._blank = self._in_code = False

    def add(self, text: str) -> None:
        """Take the next characters of the text."""
        if "\n" in text:
            self._pieces.clear()
        self._pieces.append(text)

    def quotes(self, *, indented: bool) -> bool:
        """True if a tag here is in a code span or a block quote, or (if `indented`) in indented code."""
        self._look()
        if self._in_code or self._lead.lstrip(" ").startswith(">"):
            return True
        return indented and self._blank and self._lead.expandtabs(4).startswith("    ")

    def _look(self) -> None:
        text = "".join(self._pieces)
        self._pieces.clear()
        start = max(text.rfind("\n"), text.rfind("\r")) + 1
        if start:
            self._lead, self._blank, self._in_code = "", True, False
        line = text[start:]
        self._lead = (self._lead + line[:_LEAD])[:_LEAD]
        self._blank = self._blank and not line.strip(" \t")
        self._in_code ^= len(_TICKS.findall(line)) % 2 == 1

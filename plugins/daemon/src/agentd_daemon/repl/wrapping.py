"""Wrapping: text into rows that fit a terminal's width."""

from __future__ import annotations

from prompt_toolkit.utils import get_cwidth

__all__ = ["cut", "width_of", "wrap"]


def width_of(text: str) -> int:
    """Return how many columns `text` takes."""
    return len(text) if text.isascii() else get_cwidth(text)


def cut(text: str, width: int) -> str:
    """Return `text` in at most `width` columns, with `…` at its end if some is missing."""
    if width_of(text) <= width:
        return text
    return text[: _fitting(text, width - 1)] + "…" if width > 0 else ""


def wrap(line: str, width: int, *, at_words: bool = True) -> list[str]:
    """Return one line, which has no newline in it, as rows of at most `width` columns.

    Breaks at a space where there is one (which then goes), else anywhere; a character wider than `width` has a
    row of its own. Tabs become spaces. Always at least one row.
    """
    line = line.expandtabs(8)
    rows = []
    while width_of(line) > width:
        end = max(1, _fitting(line, width))
        space = line.rfind(" ", 0, end + 1) if at_words else -1
        if space > 0 and line[:space].strip():
            rows.append(line[:space])
            line = line[space + 1 :]
        else:
            rows.append(line[:end])
            line = line[end:]
    return [*rows, line]


def _fitting(text: str, width: int) -> int:
    """Count the first characters that take at most `width` columns together."""
    if text.isascii():
        return max(0, min(len(text), width))
    used = 0
    for index, char in enumerate(text):
        used += get_cwidth(char)
        if used > width:
            return index
    return len(text)

"""Reasoning that a model writes into its answer: `<think>...</think>`. It is shown, and never searched for blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from agentd.protocols import Parser
from agentd.types import Segment, SegmentKind

__all__ = ["CLOSE", "OPEN", "ReasoningParser", "reasoning_parsers", "starts_inside"]

OPEN: Final = "<think>"
CLOSE: Final = "</think>"


def starts_inside(answer: str) -> bool:
    """True if an answer closed reasoning that it had not opened: the server had put the opening tag into the prompt."""
    return OPEN not in answer.partition(CLOSE)[0] and CLOSE in answer


def reasoning_parsers(*, inside: bool) -> Callable[[], Parser]:
    """Return what makes the parsers of one answer; `inside`: it probably begins in reasoning."""
    first = iter([True] if inside else [])
    return lambda: ReasoningParser(inside=next(first, False))


class ReasoningParser:
    """Reads one answer; see `agentd.protocols.Parser`. Each tag is a segment of its own.

    An opening tag counts at the beginning of a line, and its closing tag anywhere; a closing tag alone counts at the
    beginning of a line. With `inside`, everything is held back until it is known whether such a tag comes.
    """

    def __init__(self, *, inside: bool = False) -> None:
        self._inside = inside
        self._held: list[str] | None = [] if inside else None
        self._tail = ""  # may become a tag
        self._before: list[str] = []  # what it was not yet asked of whether a line begins behind it
        self._blank = True  # and whether only blanks came before that in its line
        self._position = 0
        self._out: list[Segment] = []

    @property
    def stops(self) -> str | None:
        """What can make more than prose of the text that comes next; see `ParserStack`."""
        return None if self._inside or self._tail else r"<(?:/?t|/?\Z)"

    @property
    def holds(self) -> str | None:
        """What can end that the text is held back which comes next; see `ParserStack`."""
        return "<" if self._held is not None and not self._tail else None

    def feed(self, text: str) -> Sequence[Segment]:
        """Take the next characters; return the segments that are certain now."""
        if "<" not in text and not self._tail and not self._inside:  # nearly always
            self._before.append(text)
            start = self._position
            self._position = end = start + len(text)
            return (Segment("prose", text, start, end),) if text else ()
        text, self._tail = self._tail + text, ""
        index = 0
        while index < len(text):
            index = self._read_reasoning(text, index) if self._inside else self._read_prose(text, index)
        out, self._out = self._out, []
        return out

    def close(self) -> Sequence[Segment]:
        """End the text; return the segments of what was still held back."""
        kind: SegmentKind = "reasoning" if self._inside and self._held is None else "prose"
        text, self._held = "".join([*(self._held or ()), self._tail]), None
        self._emit(kind, text)
        return self._out

    def _read_reasoning(self, text: str, index: int) -> int:
        at = _find(text, index, CLOSE)
        self._emit("reasoning", text[index:at])
        if not text.startswith(CLOSE, at):
            self._tail = text[at:]
            return len(text)
        held, self._held, self._inside = self._held, None, False
        self._emit("reasoning", "".join(held or ()))
        self._emit("reasoning", CLOSE)
        return at + len(CLOSE)

    def _read_prose(self, text: str, index: int) -> int:
        at = _find(text, index, OPEN, CLOSE)
        while at < len(text) and not self._begins_line(text, index, at):
            at = _find(text, at + 1, OPEN, CLOSE)
        self._emit("prose", text[index:at])
        tag = next((tag for tag in (OPEN, CLOSE) if text.startswith(tag, at)), "")
        if not tag:
            self._tail = text[at:]
            return len(text)
        self._inside = tag == OPEN
        self._emit("reasoning", tag)
        return at + len(tag)

    def _begins_line(self, text: str, index: int, at: int) -> bool:
        self._blank = _is_blank("".join(self._before), self._blank)
        self._before.clear()
        return _is_blank(text[index:at], self._blank)

    def _emit(self, kind: SegmentKind, text: str) -> None:
        if self._held is not None:
            self._held.append(text)
        elif text:
            self._before.append(text)
            self._position, at = self._position + len(text), self._position
            self._out.append(Segment(kind, text, at, self._position))


def _find(text: str, index: int, *tags: str) -> int:
    """Return where one of the tags begins, as far as there is text; the text's length if none does."""
    at = text.find("<", index)
    while at >= 0 and not any(tag.startswith(text[at : at + len(tag)]) for tag in tags):
        at = text.find("<", at + 1)
    return at if at >= 0 else len(text)


def _is_blank(text: str, blank: bool) -> bool:
    """Tell whether the line in which a text ends has only blanks; `blank` is that of the line in which it begins."""
    start = max(text.rfind("\n"), text.rfind("\r")) + 1
    return (start > 0 or blank) and not text[start:].strip(" \t")

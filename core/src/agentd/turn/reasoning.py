"""Reasoning that a model writes into its answer: `<think>...</think>`. It is shown, and never searched for blocks."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

from agentd.protocols import Parser
from agentd.types import Segment, SegmentKind

__all__ = ["CLOSERS", "OPENERS", "ReasoningParser", "reasoning_parsers", "starts_inside"]

_CLOSER_OF: Final = {  # who writes them, as far as a server does not take them out; docs/turn-rules.md has the sources
    "<think>": "</think>",  # DeepSeek-R1, Qwen3, QwQ, GLM-4.5, MiniMax-M2, ...
    "<thinking>": "</thinking>",  # models that a prompt asks for it; so the next two
    "<reasoning>": "</reasoning>",
    "<thought>": "</thought>",  # also EXAONE Deep
    "<seed:think>": "</seed:think>",  # Seed-OSS
    "[THINK]": "[/THINK]",  # Magistral
    "◁think▷": "◁/think▷",  # Kimi-VL, Kimi-Dev
    "<|START_THINKING|>": "<|END_THINKING|>",  # Command A Reasoning, Command R7B
    "<|channel>": "<channel|>",  # Gemma 4
    "<|channel|>analysis": "<|end|>",  # gpt-oss; its later messages:
    "<|start|>assistant<|channel|>analysis": "<|end|>",
}
OPENERS: Final = tuple(_CLOSER_OF)
CLOSERS: Final = tuple(_CLOSER_OF.values())
_LONE: Final = tuple(tag for tag in CLOSERS if tag != "<|end|>")  # that one ends messages of any kind
_TAGS: Final = (*OPENERS, *_LONE)
_MARK: Final = re.compile(r"[<\[◁]")


def starts_inside(answer: str) -> bool:
    """True if an answer closed reasoning that it had not opened: the server had put the opening tag into the prompt."""
    return _find(answer, 0, OPENERS + CLOSERS)[1] in _LONE


def reasoning_parsers(*, inside: bool) -> Callable[[], Parser]:
    """Return what makes the parsers of one answer; `inside`: it probably begins in reasoning."""
    first = iter([True] if inside else [])
    return lambda: ReasoningParser(inside=next(first, False))


class ReasoningParser:
    """Reads one answer; see `agentd.protocols.Parser`. Each tag is a segment of its own.

    An opening tag counts at the beginning of a line or behind reasoning, and its closing tag anywhere; a closing tag
    alone counts at the beginning of a line. With `inside`, everything is held back until it is known whether one comes.
    """

    def __init__(self, *, inside: bool = False) -> None:
        self._ends = _LONE if inside else ()  # what can end the reasoning that this is in
        self._held: list[str] | None = [] if inside else None
        self._tail = ""  # may become a tag
        self._before: list[str] = []  # what it was not yet asked of whether a line begins behind it
        self._blank = True  # and whether only blanks came before that in its line
        self._position = 0
        self._out: list[Segment] = []

    @property
    def stops(self) -> str | None:
        """What can make more than prose of the text that comes next; see `ParserStack`."""
        return None if self._ends or self._tail else r"<(?:/?(?:[rst]|\Z)|[|c])|\[/?(?:T|\Z)|◁"

    @property
    def holds(self) -> str | None:
        """What can end that the text is held back which comes next; see `ParserStack`."""
        return _MARK.pattern if self._held is not None and not self._tail else None

    def feed(self, text: str) -> Sequence[Segment]:
        """Take the next characters; return the segments that are certain now."""
        text, self._tail = self._tail + text, ""
        index = 0
        while index < len(text):
            index = self._read(text, index)
        out, self._out = self._out, []
        return out

    def close(self) -> Sequence[Segment]:
        """End the text; return the segments of what was still held back."""
        kind: SegmentKind = "reasoning" if self._ends and self._held is None else "prose"
        text, self._held = "".join([*(self._held or ()), self._tail]), None
        self._emit(kind, text)
        return self._out

    def _read(self, text: str, index: int) -> int:
        """Read up to the next tag, and return the index behind it."""
        at, tag = _find(text, index, self._ends or _TAGS)
        self._emit("reasoning" if self._ends else "prose", text[index:at])
        if at < len(text) and not (self._ends or self._begins_line()):
            self._emit("prose", text[at])
            return at + 1
        if not tag:
            self._tail = text[at:]
            return len(text)
        held, self._held = self._held, None
        self._emit("reasoning", "".join(held or ()))
        self._emit("reasoning", tag)
        self._ends = () if self._ends or tag in _LONE else (_CLOSER_OF[tag],)
        self._before, self._blank = [], True
        return at + len(tag)

    def _begins_line(self) -> bool:
        """True if only blanks come before in the line."""
        before, self._before = "".join(self._before), []
        line = before[max(before.rfind("\n"), before.rfind("\r")) + 1 :]
        self._blank = (self._blank or len(line) < len(before)) and not line.strip(" \t")
        return self._blank

    def _emit(self, kind: SegmentKind, text: str) -> None:
        if self._held is not None:
            self._held.append(text)
        elif text:
            self._before.append(text)
            self._position, at = self._position + len(text), self._position
            self._out.append(Segment(kind, text, at, self._position))


def _find(text: str, index: int, tags: tuple[str, ...]) -> tuple[int, str]:
    """Return where one of the tags begins, as far as there is text, and which if it is all there; or the text's end."""
    for mark in _MARK.finditer(text, index):
        at = mark.start()
        for tag in tags:
            seen = text[at : at + len(tag)]
            if tag.startswith(seen):
                return at, tag if tag == seen else ""
    return len(text), ""

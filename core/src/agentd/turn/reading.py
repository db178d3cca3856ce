"""Reading an answer: what is told of it while it comes, which blocks are in it, how much counts, and why it ended.

A model may write reasoning into its answer, `<think>...</think>`: it is shown, and never searched for blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final, Literal

import attrs

from agentd.events import CodeDelta, ReasoningDelta, TextDelta
from agentd.turn.parser_stack import ParserStack
from agentd.turn.transcript import target_of
from agentd.types import Block, Segment, SegmentKind

if TYPE_CHECKING:
    from agentd.notation import Notation
    from agentd.protocols import Parser
    from agentd.turn.observer import Listener

__all__ = ["AnswerReader", "ReasoningParser", "end_of", "reasoning_parsers", "starts_inside"]

OPEN: Final = "<think>"
CLOSE: Final = "</think>"


@attrs.define(eq=False)
class AnswerReader:
    """Reads one answer of the model. Prose behind a block ends it.

    :param listener: hears of prose, reasoning and drafts as they come.
    :param ids: names for the blocks.
    :param begin_block: called with each block and its name.
    """

    _listener: Listener
    _ids: Callable[[], str]
    _begin_block: Callable[[str, Block], None]
    _parser: ParserStack = attrs.field(init=False)  # made when the answer begins
    _parts: list[str] = attrs.field(init=False, factory=list)
    _length: int = attrs.field(init=False, default=0)
    _end: int = attrs.field(init=False, default=0)  # where the last block ends: what follows does not count
    _gap: str = attrs.field(init=False, default="")  # blank space behind a block, shown if another follows
    _prose: list[str] = attrs.field(init=False, factory=list)
    _draft: CodeDelta | None = attrs.field(init=False, default=None)  # of the block that is being written
    has_blocks: bool = attrs.field(init=False, default=False)
    is_cut: bool = attrs.field(init=False, default=False)
    """True if prose follows a block: nothing that comes now counts."""
    goes_on: bool = attrs.field(init=False, default=False)
    """True if that prose stands on the block's very next line."""

    @property
    def raw(self) -> str:
        """All that was read."""
        return "".join(self._parts)

    @property
    def counted(self) -> str:
        """What counts of it."""
        return self.raw[: self._end] if self.has_blocks else self.raw

    @property
    def prose(self) -> str:
        """What the model says in front of its blocks, without its reasoning."""
        return "".join(self._prose)

    def begin(self, notations: Sequence[Notation], last: str) -> None:
        """Make the parsers. Reasoning is taken out before a notation sees it.

        :param last: the answer before: it tells whether this one begins in reasoning.
        """
        reasoning = reasoning_parsers(inside=starts_inside(last))
        self._parser = ParserStack([reasoning, *(notation.parser for notation in notations)])

    def feed(self, text: str) -> None:
        """Read on."""
        listener = self._listener
        if text:
            self._parts.append(text)
            self._length += len(text)
            skimmed = "" if self.has_blocks else self._parser.skim(text)
            if skimmed == "prose":
                self._prose.append(text)
                listener.emit(TextDelta(text))
            elif not skimmed:
                self._read(self._parser.feed(text))
            if not self.has_blocks:
                listener.certain(self._length)
            if skimmed != "prose" and not self.is_cut:
                self._tell_draft(text)
        listener.parsed()

    def close(self, *, ended: bool = True) -> None:
        """Read what was still held back: the answer is over.

        :param ended: whether the model ended it. A block that was cut may look complete by chance: at an inner fence's
            end.
        """
        segments = self._parser.close()
        if not ended:
            segments = [_unfinished(segment) for segment in segments]
        self._read(segments)
        if not self.has_blocks:
            self._listener.certain(self._length)
        self._listener.parsed()

    def _read(self, segments: Iterable[Segment]) -> None:
        for segment in segments:
            if segment.block is not None:
                self._take_block(segment.block, segment.end)
            elif self.has_blocks:
                if segment.text.strip():
                    self.is_cut, self.goes_on = True, not self._gap and segment.text[0] not in "\r\n"
                    return
                self._gap += segment.text
            elif segment.kind != "reasoning":
                self._prose.append(segment.text)
                self._listener.emit(TextDelta(segment.text))
            elif segment.text == CLOSE:
                self._prose.clear()  # what came before was no answer
            elif segment.text != OPEN:
                self._listener.emit(ReasoningDelta(segment.text))

    def _take_block(self, block: Block, end: int) -> None:
        if self._gap:
            self._listener.emit(TextDelta(self._gap))
            self._gap = ""
        self._end = end
        self._listener.certain(end)
        self.has_blocks = True
        id, self._draft = self._draft.id if self._draft else self._ids(), None
        self._begin_block(id, block)

    def _tell_draft(self, text: str) -> None:
        """Tell of the code in `text`, the answer's last piece, if that belongs to a block that is being written."""
        if (draft := self._parser.draft) is None:
            return
        target, action, start = draft
        if self._draft is None:
            told = target_of(Block.of(target, action, ""))
            self._draft = CodeDelta(id=self._ids(), text="", action=action, target=told)
        if text := text[max(0, start - (self._length - len(text))) :]:
            begun = self._draft
            self._listener.emit(CodeDelta(id=begun.id, text=text, action=action, target=begun.target))


def _unfinished(segment: Segment) -> Segment:
    if segment.block is None:
        return segment
    return attrs.evolve(segment, block=attrs.evolve(segment.block, complete=False))


# --- reasoning -----------------------------------------------------------------------------------------


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


# --- the end -------------------------------------------------------------------------------------------

End = Literal["answer", "refused", "cut", "provider_error", "paused"]

_WORDS: Final[dict[End, str]] = {
    "refused": "refusal content_filter content_filtered safety recitation blocklist prohibited_content spii "
    "image_safety sensitive guardrail_intervened blocked",
    "cut": "length max_tokens max_output_tokens model_length model_context_window_exceeded",
    "provider_error": "error network_error insufficient_system_resource malformed_function_call unexpected_tool_call",
    "paused": "pause_turn",
}
_ENDS: Final[dict[str, End]] = {word: end for end, words in _WORDS.items() for word in words.split()}


def end_of(word: str) -> End:
    """Return what a provider's finish reason means; one that is not known is an ordinary end."""
    return _ENDS.get(word.lower(), "answer")

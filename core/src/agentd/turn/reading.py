"""Reading an answer: what is told of it while it comes, which blocks are in it, and how much of it counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import attrs

from agentd.events import CodeDelta, ReasoningDelta, TextDelta
from agentd.turn.parser_stack import ParserStack
from agentd.turn.reasoning import CLOSERS, OPENERS, reasoning_parsers, starts_inside
from agentd.turn.results import target_of
from agentd.types import Block, Segment

if TYPE_CHECKING:
    from agentd.notation import Notation
    from agentd.turn.observer import Listener

__all__ = ["AnswerReader"]


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
    length: int = attrs.field(init=False, default=0)
    """How many characters were read."""
    _end: int = attrs.field(init=False, default=0)  # where the last block ends: what follows does not count
    _gap: str = attrs.field(init=False, default="")  # blank space behind a block, shown if another follows
    _prose: list[str] = attrs.field(init=False, factory=list)
    _draft: CodeDelta | None = attrs.field(init=False, default=None)  # of the block that is being written
    _ended: bool = attrs.field(
        init=False, default=True
    )  # False for what is left of an answer that was cut off
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
        inside = starts_inside(last) or any(notation.starts_in_reasoning for notation in notations)
        reasoning = reasoning_parsers(inside=inside)
        self._parser = ParserStack([reasoning, *(notation.parser for notation in notations)])

    def feed(self, text: str) -> None:
        """Read on."""
        if text:
            self._parts.append(text)
            self.length += len(text)
            skimmed = "" if self.has_blocks else self._parser.skim(text)
            if skimmed == "prose":
                self._prose.append(text)
                self._listener.emit(TextDelta(text))
            elif not skimmed:
                self._read(self._parser.feed(text))
            if not self.has_blocks:
                self._listener.certain(self.length)
            if skimmed != "prose" and not self.is_cut:
                self._tell_draft(text)
        self._listener.parsed()

    def close(self, *, ended: bool = True) -> None:
        """Read what was still held back: the answer is over.

        :param ended: whether the model ended it: a block that was cut may look complete, at the end of an inner fence.
        """
        self._ended = ended
        self._read(self._parser.close())
        if not self.has_blocks:
            self._listener.certain(self.length)
        self._listener.parsed()

    def _read(self, segments: Sequence[Segment]) -> None:
        tag = next(
            (i for i, s in enumerate(segments) if s.kind == "reasoning" and s.text in OPENERS + CLOSERS), 0
        )
        if (
            segments and segments[tag].text in CLOSERS
        ):  # also without a tag that opens: what comes before was reasoning
            self._draft = None
            segments = [
                *(Segment("reasoning", s.text, s.start, s.end) for s in segments[:tag]),
                *segments[tag:],
            ]
        for segment in segments:
            if segment.block is not None:
                self._take_block(segment.block, segment.end)
            elif self.has_blocks:
                if segment.text.strip():
                    rest = self.raw[self._end - 1 :]
                    self.is_cut, self.goes_on = True, rest[0] in "\r\n" and rest[1] not in "\r\n"
                    return
                self._gap += segment.text
            elif segment.kind != "reasoning":
                self._prose.append(segment.text)
                self._listener.emit(TextDelta(segment.text))
            elif segment.text in CLOSERS:
                self._prose.clear()  # what came before was no answer
            elif segment.text not in OPENERS:
                self._listener.emit(ReasoningDelta(segment.text))

    def _take_block(self, block: Block, end: int) -> None:
        if self._gap:
            self._listener.emit(TextDelta(self._gap))
            self._gap = ""
        self._end = end
        self._listener.certain(end)
        self.has_blocks = True
        id, self._draft = self._draft.id if self._draft else self._ids(), None
        self._begin_block(id, attrs.evolve(block, complete=block.complete and self._ended))

    def _tell_draft(self, text: str) -> None:
        """Tell of the code in `text`, the answer's last piece, if that belongs to a block that is being written."""
        if (draft := self._parser.draft) is None:
            return
        target, action, start = draft
        if self._draft is None:
            told = target_of(Block.of(target, action, ""))
            self._draft = CodeDelta(id=self._ids(), text="", action=action, target=told)
        if text := text[max(0, start - (self.length - len(text))) :]:
            begun = self._draft
            self._listener.emit(CodeDelta(id=begun.id, text=text, action=action, target=begun.target))

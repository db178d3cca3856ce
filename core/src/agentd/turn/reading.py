"""Reading an answer: what is told of it while it comes, which blocks are in it, how much counts, and why it ended.

A model may write reasoning into its answer, `<think>...</think>`: it is shown, and never searched for blocks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
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
_OPENERS: Final = tuple(_CLOSER_OF)
_CLOSERS: Final = tuple(_CLOSER_OF.values())
_LONE: Final = tuple(tag for tag in _CLOSERS if tag != "<|end|>")  # that one ends messages of any kind
_TAGS: Final = (*_OPENERS, *_LONE)
_MARK: Final = re.compile(r"<(?:/?(?:[rst]|\Z)|[|c])|\[/?(?:T|\Z)|◁")  # one of them may begin there


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
    _ended: bool = attrs.field(init=False, default=True)  # False: the answer was cut off
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
        tags = (i for i, s in enumerate(segments) if s.kind == "reasoning" and s.text in _OPENERS + _CLOSERS)
        tag = next(tags, 0)
        # Also without a tag that opens: what comes before was reasoning.
        if segments and segments[tag].text in _CLOSERS:
            self._draft = None
            before = (Segment("reasoning", s.text, s.start, s.end) for s in segments[:tag])
            segments = [*before, *segments[tag:]]
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
            elif segment.text in _CLOSERS:
                self._prose.clear()  # what came before was no answer
            elif segment.text not in _OPENERS:
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


# --- reasoning -----------------------------------------------------------------------------------------


def starts_inside(answer: str) -> bool:
    """True if an answer closed reasoning that it had not opened: the server had put the opening tag into the prompt."""
    if not _MARK.search(answer):
        return False
    told = ReasoningParser().feed(answer)
    return next((segment.text in _LONE for segment in told if segment.kind == "reasoning"), False)


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
        return None if self._ends or self._tail else _MARK.pattern

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

"""What finds blocks in an answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from agentd.types import Segment

__all__ = ["DraftingParser", "Parser", "SkippingParser"]


@runtime_checkable
class Parser(Protocol):
    """Finds blocks in a model's answer, incrementally.

    One instance reads one answer. `feed` takes the next characters and returns the segments that are now
    certain; `close` ends the text and returns the rest. All segments together, in order, cover the text
    exactly once; the result is the same for every way of cutting the text; the work is linear in it. A
    parser holds back at most a partial opener, and the body of a block until its end. It may be a `SkippingParser`.
    """

    def feed(self, text: str) -> Sequence[Segment]: ...

    def close(self) -> Sequence[Segment]: ...


class SkippingParser(Protocol):
    """What a parser may also have, one or both, to be spared most of an answer. Without, it has the default here.

    `stops` is read whenever the parser has returned everything as prose: the source of a regular expression, or None
    (the parser must see all). It is searched in the next text with the character before it in front (at the
    beginning, and behind a block, a line feed). Text in which it is not found is prose at once, and the parser is
    given it later, in one piece with what follows. `holds` is the same for a parser that holds text back, such as a
    block that has begun: text in which it is not found is held back as well.
    """

    stops: str | None = None
    holds: str | None = None


class DraftingParser(Protocol):
    """What a parser may also have, so that people see code while the model writes it.

    `draft` is read behind each `feed`: target and action of the block that is being read, and where its code begins, in
    characters of what the parser was fed; None outside of a block.
    """

    draft: tuple[str, str, int] | None

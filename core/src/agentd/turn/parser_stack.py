"""Several parsers over one answer: `ParserStack` is what the loop reads a model's answer with."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Final, Literal

from agentd.errors import PluginError
from agentd.protocols import Parser
from agentd.types import Segment

__all__ = ["ParserStack"]

# A reader that was restarted gets small pieces first, then doubling ones: what it reads in vain when
# another parser wins stays in proportion to what the stack advanced.
_FIRST_SLICE: Final = 64
_LAST_SLICE: Final = 65_536
_SMALL_FEED: Final = 256

_front = attrgetter("front")


def _stop_always(text: str) -> object:
    return True


@lru_cache(maxsize=64)
def _any_of(patterns: tuple[str | None, ...]) -> Callable[[str], object]:
    """Return a function that finds one of the patterns in a text; None as a pattern is anywhere."""
    if None in patterns:
        return _stop_always
    # Not in groups: an alternation of literals at the top lets `re` skip to one of their characters.
    return re.compile("|".join(filter(None, patterns))).search


class _Reader:
    """One parser on the stream. Positions are the answer's, in characters.

    `fed` is how far it has read; before `front` it found nothing but prose (that is settled); `found` is
    what it has found from there on; `base` is where this instance of the parser started.
    """

    __slots__ = ("base", "closed", "expected", "factory", "fed", "found", "front", "parser", "slice")

    def __init__(self, factory: Callable[[], Parser]) -> None:
        self.factory = factory
        self.found: deque[Segment] = deque()
        self.parser = factory()
        self.base = self.fed = self.front = self.expected = 0
        self.slice = _FIRST_SLICE
        self.closed = False

    def restart(self, position: int) -> None:
        """Forget everything and read on from `position`."""
        if self.fed > self.base or self.closed:  # else this instance has not read anything yet
            self.parser = self.factory()
            self.found.clear()
            self.slice = _FIRST_SLICE
            self.closed = False
        self.base = self.fed = self.front = position
        self.expected = 0

    def take(self, segments: Sequence[Segment]) -> None:
        """Note what the parser returned; prose in front only moves `front`."""
        found = self.found
        for segment in segments:
            if segment.start != self.expected or segment.end < segment.start:
                raise self.broken(f"a segment from {segment.start} to {segment.end}", self.expected)
            self.expected = segment.end
            if found or segment.kind != "prose":
                found.append(segment)
            else:
                self.front = self.base + segment.end
        if self.base + self.expected > self.fed:
            raise self.broken(f"a segment that ends at {self.expected}", self.fed - self.base)

    def broken(self, got: str, expected: int) -> PluginError:
        kind = type(self.parser)
        return PluginError(
            f"the parser {kind.__module__}.{kind.__qualname__} returned {got} where {expected} was due; "
            "segments must cover the text in order, without gaps: update or uninstall its plugin"
        )


class ParserStack:
    """Runs several parsers over one answer; the earliest opener wins.

    `factories`, one or more, make the parsers (see `agentd.protocols.Parser`); each is called once now and once after
    each block or opaque piece that another parser found. If two open at the same character, the one that
    stands first in `factories` wins. What lies inside a `block` or `opaque` segment of the winner is not
    seen by the others: they start anew behind it.

    `feed` returns the segments that are now certain, `close` the rest; together they cover the text
    exactly once, in order, with positions in the whole text. Neighbouring prose is merged within one
    call. The work is linear in the text: only the parser whose unsettled text lies furthest back reads
    on, so that inside a long block the others cost nothing.

    A `SkippingParser` is spared most of the text.

    Raises `PluginError` if a parser's segments have gaps or overlap.
    """

    def __init__(self, factories: Sequence[Callable[[], Parser]]) -> None:
        self._readers = [_Reader(factory) for factory in factories]
        self._text = ""  # what some reader may still need ...
        self._text_start = 0  # ... its position ...
        self._pieces: list[str] = []  # ... and what came since, which only the leader has read
        self._end = 0  # without the pieces
        self._done = 0  # everything before has been returned
        self._winner: _Reader | None = None  # found what ended at _done: there it goes first
        self._lead = self._readers[0]  # the others need nothing more now
        self._level = True  # all readers have read everything, hold nothing back, and found prose last
        self._stop: Callable[[str], object] = _stop_always  # finds what the parsers have to look at, or None
        self._last = "\n"  # the character before the text that comes next
        # Prose without it, behind _end: returned, but not seen by the parsers ...
        self._passed: list[str] = []
        self._skimmed: list[str] = []  # ... and behind it, not even counted in _done, or held back for _lead

    def feed(self, text: str) -> list[Segment]:
        """Take the next characters; return the segments that are certain now."""
        if self._level:
            return self._feed_level(text)
        short = len(text) <= _SMALL_FEED
        if self._skimmed:
            text = "".join(self._skimmed) + text
            self._skimmed.clear()
        if not short:
            return self._feed_long(text)
        self._pieces.append(text)  # what follows is all that happens inside a block
        segments = self._lead.parser.feed(text)
        if not segments:
            self._note_stops(text[-1:] or self._last)
            return []
        self._join_pieces()
        self._lead.take(segments)
        return self._advance(final=False)

    def skim(self, text: str) -> Literal["", "prose", "held"]:
        """Take the next characters if that changes nothing, else leave them to `feed`.

        A short cut for who needs no positions. `prose` stands for the one segment that `feed` would return,
        `held` for none. It may be empty although the text is one of both.
        """
        if self._stop(self._last + text) is not None:
            return ""
        if text:
            self._skimmed.append(text)
            self._last = text[-1]
        return "prose" if self._level else "held"

    @property
    def draft(self) -> tuple[str, str, int] | None:
        """The block that is being read (see `DraftingParser`); its position is the answer's."""
        draft: tuple[str, str, int] | None = getattr(self._lead.parser, "draft", None)
        return draft and (*draft[:2], self._lead.base + draft[2])

    def close(self) -> list[Segment]:
        """End the text; return the segments of what was still held back."""
        if self._level:  # nobody holds anything back, but may tell of a block that is not run
            told = [s.block for reader in self._readers for s in reader.parser.close() if s.block][:1]
            end = self._done + sum(map(len, self._skimmed))
            return [Segment("block", "", end, end, block) for block in told]
        text = "".join(self._skimmed)
        self._skimmed.clear()
        self._settle()
        self._text += text
        self._end += len(text)
        return self._advance(final=True)

    def _feed_level(self, text: str) -> list[Segment]:
        """Feed while no reader holds anything back. Most of what is prose is not even shown to them."""
        if self._skimmed:
            self._passed.append("".join(self._skimmed))
            self._done += len(self._passed[-1])
            self._skimmed.clear()
        if self._stop(self._last + text) is None:
            if not text:
                return []
            start = self._done
            self._done = end = start + len(text)
            self._passed.append(text)
            self._last = text[-1]
            return [Segment("prose", text, start, end)]
        if self._passed:  # the parsers have not seen that yet
            text = "".join([*self._passed, text])
            self._passed.clear()
        return self._feed_all(text) if len(text) <= _SMALL_FEED else self._feed_long(text)

    def _feed_long(self, text: str) -> list[Segment]:
        self._settle()
        self._text += text
        self._end += len(text)
        return self._advance(final=False)

    def _feed_all(self, text: str) -> list[Segment]:
        """Feed all readers at once. In prose, this is all there is to do."""
        start = self._end
        self._text, self._text_start, self._end = text, start, start + len(text)
        for index, reader in enumerate(self._readers):
            segments = reader.parser.feed(text)
            if len(segments) == 1:
                segment, base = segments[0], reader.base
                if (segment.kind, segment.start, segment.end) == ("prose", start - base, self._end - base):
                    continue
            self._leave_level(index, start)
            reader.take(segments)
            return self._advance(final=False)
        self._note_stops(text[-1:])
        whole = Segment("prose", text[self._done - start :], self._done, self._end)
        self._done = self._end
        return [whole] if whole.text else []

    def _note_stops(self, last: str) -> None:
        """Find out what `skim` looks for; it stops at once if some parser must see all of the text."""
        self._last = last or "\n"
        if self._level:
            self._stop = _any_of(tuple([getattr(reader.parser, "stops", None) for reader in self._readers]))
        else:
            self._stop = _any_of((getattr(self._lead.parser, "holds", None),))

    def _leave_level(self, count: int, start: int) -> None:
        """Note what `_feed_level` did not: `count` readers found prose from `start` on, the next read it."""
        self._level = False
        for index, reader in enumerate(self._readers):
            reader.front = self._end if index < count else start
            reader.fed = self._end if index <= count else start
            reader.expected = reader.front - reader.base

    def _settle(self) -> None:
        """Write down what the short ways through `feed` left out."""
        if self._level:
            self._leave_level(len(self._readers), self._end)
            self._text, self._text_start = "", self._end
        self._join_pieces()

    def _join_pieces(self) -> None:
        """Put the pieces, which the leader has read, behind the text that is kept."""
        if self._pieces:
            fresh = "".join(self._pieces)
            self._pieces.clear()
            self._text += fresh
            self._end += len(fresh)
            self._lead.fed = self._end

    def _advance(self, *, final: bool) -> list[Segment]:
        """Let the reader that is furthest back go on until it needs text that is not there yet."""
        out: list[Segment] = []
        while True:
            reader = self._furthest_back()
            if reader.found:
                self._commit(reader, out)
            elif reader.fed < self._end:
                self._read_on(reader)
            elif final and not reader.closed:
                reader.closed = True
                reader.take(reader.parser.close())
                if reader.expected != self._end - reader.base:
                    raise reader.broken(f"text up to {reader.expected} only", self._end - reader.base)
            else:
                break
        self._lead = reader
        self._emit_prose(reader.front, out)
        self._level = reader.front == self._end and self._winner is None
        fresh = any(reader.fed == reader.base for reader in self._readers)  # for it, a line begins here
        self._note_stops("" if fresh else self._text[-1:])
        gone = self._done - self._text_start
        if 2 * gone >= len(self._text):  # what was returned is forgotten when it is the larger half
            self._text, self._text_start = self._text[gone:], self._done
        return out

    def _furthest_back(self) -> _Reader:
        winner = self._winner
        if winner is not None and winner.front == self._done:
            return winner  # it may be in the middle of an opaque piece that comes in parts
        return min(self._readers, key=_front)

    def _read_on(self, reader: _Reader) -> None:
        start = reader.fed - self._text_start
        reader.fed = min(self._end, reader.fed + reader.slice)
        reader.slice = min(reader.slice * 2, _LAST_SLICE)
        reader.take(reader.parser.feed(self._text[start : reader.fed - self._text_start]))

    def _commit(self, reader: _Reader, out: list[Segment]) -> None:
        """Return what the reader found first, and start the others behind it."""
        segment = reader.found.popleft()
        base = reader.base
        start, end = base + segment.start, base + segment.end
        if start < self._done:
            raise reader.broken(
                f"a {segment.kind} at {segment.start}, in what its `stops` passed", self._done - base
            )
        self._emit_prose(start, out)
        out.append(segment if base == 0 else Segment(segment.kind, segment.text, start, end, segment.block))
        self._done = reader.front = end
        self._winner = reader
        while reader.found and reader.found[0].kind == "prose":
            reader.front = base + reader.found.popleft().end
        for other in self._readers:
            if other is not reader:
                other.restart(end)

    def _emit_prose(self, end: int, out: list[Segment]) -> None:
        start = self._done
        if end > start:
            offset = self._text_start
            out.append(Segment("prose", self._text[start - offset : end - offset], start, end))
            self._done = end
            self._winner = None

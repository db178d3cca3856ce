"""What holds for every answer and every way of cutting it."""

from __future__ import annotations

import re
from itertools import pairwise

from agentd.types import Segment
from agentd_parser_fence.parser import LONGEST_OPENER, FenceParser
from hypothesis import given, settings
from hypothesis import strategies as st

FENCES = st.sampled_from(["```", "`", "~~~", "~", "````", "bash:execute", "a b.txt:create", "js"])
BLANKS = st.sampled_from([" ", "   ", "    ", "\t", "\n", "\n", "\n", "\r", "\r\n", "\x0b", "\0"])
OTHERS = st.sampled_from(["- ", "1. ", "* * *", "> ", "text", "\n```sh:execute\nls\n```\n", "🚀"])
PIECES = FENCES | BLANKS | OTHERS
ANSWERS = st.one_of(st.lists(PIECES, max_size=40).map("".join), st.text(max_size=80))
CUTS = st.lists(st.integers(0, 400), max_size=30)


def read(text: str, cuts: list[int]) -> list[Segment]:
    parser = FenceParser()
    out: list[Segment] = []
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    for start, end in pairwise(places):
        out += parser.feed(text[start:end])
    return [*out, *parser.close()]


def merged(segments: list[Segment]) -> list[tuple[object, ...]]:
    """Neighbours of one kind as one, except blocks: where they are cut depends on the deltas."""
    out: list[tuple[object, ...]] = []
    for s in segments:
        if out and s.kind != "block" and out[-1][0] == s.kind:
            out[-1] = (s.kind, out[-1][1], s.end, None)
        else:
            out.append((s.kind, s.start, s.end, s.block))
    return out


@settings(max_examples=500)
@given(ANSWERS, CUTS)
def test_every_way_of_cutting_gives_the_same(text: str, cuts: list[int]) -> None:
    whole = merged(read(text, []))
    assert merged(read(text, cuts)) == whole
    assert merged(read(text, list(range(len(text))))) == whole


@given(ANSWERS, CUTS)
def test_nothing_is_lost_or_doubled_and_positions_are_those_of_the_answer(text: str, cuts: list[int]) -> None:
    segments = read(text, cuts)
    assert "".join(s.text for s in segments) == text
    position = 0
    for s in segments:
        assert s.start == position
        assert s.end > s.start
        assert text[s.start : s.end] == s.text
        assert (s.block is not None) == (s.kind == "block")
        position = s.end


@given(ANSWERS)
def test_outside_of_a_block_only_a_part_of_a_line_is_held_back(text: str) -> None:
    parser = FenceParser()
    given_out = 0
    for index, char in enumerate(text):
        given_out += sum(len(s.text) for s in parser.feed(char))
        held = text[given_out : index + 1]
        lines = re.findall(r"[^\r\n]+", held)
        inside_a_block = any(":" in line for line in lines[:1])
        assert inside_a_block or len(lines) <= 1
        assert inside_a_block or len(held) <= LONGEST_OPENER + 1

"""What holds for every answer and every way of cutting it."""

from __future__ import annotations

import itertools
import re

from agentd_parser_fence.parser import LONGEST_OPENER, FenceParser
from hypothesis import given, strategies as st

FENCES = st.sampled_from(["```", "`", "~~~", "~", "````", "bash:execute", "a b.txt:create", "js"])
BLANKS = st.sampled_from([" ", "   ", "    ", "\t", "\n", "\n", "\n", "\r", "\r\n", "\x0b", "\0"])
OTHERS = st.sampled_from(["- ", "1. ", "* * *", "> ", "text", "\n```sh:execute\nls\n```\n", "🚀"])
PIECES = FENCES | BLANKS | OTHERS
ANSWERS = st.one_of(st.lists(PIECES, max_size=40).map("".join), st.text(max_size=80))
CUTS = st.lists(st.integers(0, 400), max_size=30)


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


FILES = st.sampled_from(
    ["```a.md:create\n", "~~~a.md:create\r\n", "```\n", "~~~\r", "```", "x\n", " ", "\n", "`", "js"]
)


@given(st.lists(FILES, max_size=20).map("".join), CUTS)
def test_files_with_fences_are_the_same_for_every_way_of_cutting(text: str, cuts: list[int]) -> None:
    whole, pieces = FenceParser(), FenceParser()
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    found = [s for a, b in itertools.pairwise(places) for s in pieces.feed(text[a:b])]
    found += pieces.close()
    expected = [*whole.feed(text), *whole.close()]
    assert "".join(s.text for s in found) == text == "".join(s.text for s in expected)
    assert [(s.start, s.block) for s in found if s.block] == [(s.start, s.block) for s in expected if s.block]

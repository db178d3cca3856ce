"""What holds for every answer and every way of cutting it."""

from __future__ import annotations

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

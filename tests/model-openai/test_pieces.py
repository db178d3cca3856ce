"""An answer's pieces, cut anywhere."""

from __future__ import annotations

import itertools

from agentd.text import valid_text
from agentd_model_openai.pieces import TextJoiner
from hypothesis import given, strategies as st

anything = st.text(st.characters() | st.characters(categories=["Cs"]) | st.sampled_from("\0\x1b\ud83d\ude00"))


@given(anything, st.lists(st.integers(0, 100)))
def test_pieces_give_what_the_whole_gives(text: str, cuts: list[int]) -> None:
    joiner = TextJoiner()
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [joiner.feed(text[a:b]) for a, b in itertools.pairwise(places)]
    assert "".join([*pieces, joiner.close()]) == valid_text(text)
    for piece in pieces:
        piece.encode()

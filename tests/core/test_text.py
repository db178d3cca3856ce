"""Text from outside becomes valid Unicode, and data becomes JSON that every reader takes."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import pytest
from agentd.text import TextJoiner, strict_json, valid_data, valid_text
from hypothesis import given, strategies as st

anything = st.text(st.characters() | st.characters(categories=["Cs"]) | st.sampled_from("\0\x1b\ud83d\ude00"))
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | anything,
    lambda inner: st.lists(inner) | st.dictionaries(anything, inner),
    max_leaves=20,
)


def strictly(text: str) -> Any:
    def refuse(name: str) -> Any:
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text.encode(), parse_constant=refuse)


@given(anything)
def test_text_is_made_valid_and_valid_text_stays_the_same(text: str) -> None:
    made = valid_text(text)
    made.encode()
    assert valid_text(made) is made
    if not any("\ud800" <= char <= "\udfff" for char in text):
        assert made is text
    kept = [char for char in text if not "\ud800" <= char <= "\udfff"]
    assert [char for char in made if char != "\ufffd" and ord(char) <= 0xFFFF] == [
        c for c in kept if c != "\ufffd" and ord(c) <= 0xFFFF
    ]


def test_a_pair_is_its_character_and_a_single_one_is_replaced() -> None:
    assert valid_text("\ud83d\ude00") == "😀"
    assert valid_text("a\ud83db\ude00c\ude00\ud83d") == "a\ufffdb\ufffdc\ufffd\ufffd"


@given(anything, st.lists(st.integers(0, 100)))
def test_pieces_give_what_the_whole_gives(text: str, cuts: list[int]) -> None:
    joiner = TextJoiner()
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [joiner.feed(text[a:b]) for a, b in itertools.pairwise(places)]
    assert "".join([*pieces, joiner.close()]) == valid_text(text)
    for piece in pieces:
        piece.encode()


@given(plain)
def test_data_is_valid_all_the_way_down(value: Any) -> None:
    repr(valid_data(value)).encode()
    json.dumps(valid_data(value), ensure_ascii=False).encode()


@given(plain)
def test_data_becomes_strict_json(value: Any) -> None:
    strictly(strict_json(value))


def test_what_json_lacks_becomes_null_or_text() -> None:
    found = strictly(strict_json({"n": [math.nan, math.inf, 1.5], "s": {1, 2}, "t": ("\ud83d",), 2: 10**400}))
    assert found == {"n": [None, None, 1.5], "s": "{1, 2}", "t": ["\ufffd"], "2": 10**400}


@pytest.mark.parametrize("depth", [90, 500, 100_000])
def test_deep_data_ends_somewhere(depth: int) -> None:
    value: Any = math.nan
    for _ in range(depth):
        value = [value]
    strictly(strict_json(value))
    value = []
    value.append(value)
    strictly(strict_json(value))

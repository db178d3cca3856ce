"""Text from outside becomes valid Unicode, all the way down."""

from __future__ import annotations

import json
from typing import Any

from agentd.text import valid_data, valid_text
from hypothesis import given, strategies as st

anything = st.text(st.characters() | st.characters(categories=["Cs"]) | st.sampled_from("\0\x1b\ud83d\ude00"))
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | anything,
    lambda inner: st.lists(inner) | st.dictionaries(anything, inner),
    max_leaves=20,
)


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


@given(plain)
def test_data_is_valid_all_the_way_down(value: Any) -> None:
    repr(valid_data(value)).encode()
    json.dumps(valid_data(value), ensure_ascii=False).encode()

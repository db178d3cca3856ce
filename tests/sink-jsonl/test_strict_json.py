"""Whatever a record holds, its line is JSON that every reader takes."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from agentd_sink_jsonl.strict_json import strict_json
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

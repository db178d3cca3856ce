"""Large arguments of a call have another reader than small ones: what comes out is the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
from agentd.errors import ToolInputError
from agentd_tools.results import load_object
from hypothesis import given, strategies as st

PAD = "x" * 20_000
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(10**18, 10**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def alike(one: Any, other: Any) -> bool:
    return repr(one) == repr(other)  # of -0.0 and 0, 1 and 1.0 as well


@given(VALUES, st.booleans())
def test_they_are_what_the_standard_library_reads(value: Any, ascii_only: bool) -> None:
    text = json.dumps({"pad": PAD, "value": value}, ensure_ascii=ascii_only)
    data = text.encode("utf-8", "surrogatepass")
    try:
        expected = json.loads(data.decode())
    except UnicodeDecodeError:  # lone surrogates as bytes
        return
    assert alike(load_object("tool", data), expected)


@pytest.mark.parametrize(
    "written", ['"\\ud800"', "1e400", '"\\ud83d\\ude00"', "[" * 300 + "]" * 300, "-0.0", "9" * 4000, " 1 "]
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_so_is_what_only_the_standard_library_reads(written: str, encoding: str) -> None:
    data = f'{{"pad": "{PAD}", "value": {written}}}'.encode(encoding)
    assert alike(load_object("tool", data), json.loads(data))


@pytest.mark.parametrize("written", ["NaN", "1 2", '"\t"', "9" * 5000, "[" * 200_000, "", '"\\x"'])
def test_what_is_no_json_is_refused_with_the_tool_s_name(written: str) -> None:
    with pytest.raises(ToolInputError, match=r"^tool\(\): the arguments are no JSON that can be read"):
        load_object("tool", f'{{"pad": "{PAD}", "value": {written}}}'.encode())

"""Whatever a server writes as text comes in as valid Unicode, and no answer is waited for in vain."""

from __future__ import annotations

import json
import time
from typing import Any

import anyio
import pytest
from agentd.errors import ToolError, ToolInputError
from agentd_mcp_bridge.lenient import read_json
from agentd_tools import ToolSet
from helpers import source
from hypothesis import given, strategies as st

TEXT = '{"content": [{"type": "text", "text": "%s"}]}'


def call(result: str, *, start: str = "well") -> Any:
    """Return what a tool gives whose result is this text, as bytes of Latin-1; it must come soon."""
    tools = ToolSet([], [source(start)])
    anyio.run(tools.start)
    try:
        assert all(spec.description.isascii() or "\ufffd" in spec.description for spec in tools.specs())
        begin = time.monotonic()
        return tools.call_sync("raw", {"text": f'{{"jsonrpc":"2.0","id":ID,"result":{result}}}'})
    finally:
        assert time.monotonic() - begin < 20  # the time-out is 60 s
        anyio.run(tools.aclose)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("half \\ud83d", "half \ufffd"),
        ("\\uDE00\\ud83d\\ude00\\uD83D", "\ufffd😀\ufffd"),
        ("\\\\ud83d", "\\ud83d"),
        ("\\\\\\ud83dx", "\\\ufffdx"),
        ("no UTF-8: \xff\xfe", "no UTF-8: \ufffd\ufffd"),
        ("\\u0000\\u001b[2J", "\0\x1b[2J"),
    ],
)
def test_text_of_an_answer_is_valid(text: str, expected: str) -> None:
    assert call(TEXT % text) == expected


def test_descriptions_of_tools_are_valid() -> None:
    assert call(TEXT % "ok", start="halves") == "ok"


def test_numbers_that_json_lacks_are_an_answer_or_an_error_at_once() -> None:
    try:
        found = call('{"content": [], "structuredContent": {"n": NaN, "m": -Infinity, "l": 1e999}}')
    except ToolError:
        return
    assert set(found) == {"n", "m", "l"}


@pytest.mark.parametrize(
    "result", ["DEEP", '{"content": [], "structuredContent": {"a": DEEP}}', "{", "7", "NaN"]
)
def test_an_answer_that_cannot_be_read_fails_its_call_at_once(result: str) -> None:
    with pytest.raises(ToolError):
        call(result)


def test_what_code_passes_is_sent_as_valid_text_or_refused() -> None:
    tools = ToolSet([], [source()])
    anyio.run(tools.start)
    deep: Any = "x"
    for _ in range(5_000):
        deep = [deep]
    try:
        assert tools.call_sync("echo", {"text": "a\ud83d\ude00\udcff\0\x1b"}) == "a😀\ufffd\0\x1b"
        for odd in (deep, float("nan"), float("-inf")):
            with pytest.raises(ToolInputError, match="the arguments are no JSON"):
                tools.call_sync("echo", {"text": odd})
        assert tools.call_sync("echo", {"text": "still there"}) == "still there"
    finally:
        anyio.run(tools.aclose)


@given(
    st.recursive(
        st.none() | st.floats() | st.integers() | st.text(),
        lambda i: st.lists(i) | st.dictionaries(st.text(), i),
    )
)
def test_what_is_valid_means_the_same(value: Any) -> None:
    for ascii_only in (True, False):
        assert repr(read_json(json.dumps(value, ensure_ascii=ascii_only).encode())) == repr(value)


@given(st.text(st.characters(categories=["Cs", "L"])))
def test_escapes_become_text_that_can_be_sent(text: str) -> None:
    read_json(json.dumps(text).encode()).encode()

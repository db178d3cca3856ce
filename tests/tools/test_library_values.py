"""Results that are tables, pictures and figures of libraries: real ones, where they are installed."""

from __future__ import annotations

import io
import math
from typing import Any

import pytest
from agentd.types import Blob
from agentd_skills.sandbox import bridge
from agentd_tools import ToolSet
from agentd_tools.results import encode_result


def given(value: object) -> Any:
    def give() -> object:
        return value

    return ToolSet([give]).call_sync("give", {})


def library(name: str) -> Any:
    return pytest.importorskip(
        name, reason=f"{name} is not installed: pip install {name.replace('PIL', 'pillow')}"
    )


def test_a_table_of_pandas_is_a_list_of_records() -> None:
    pandas = library("pandas")
    frame = pandas.DataFrame(
        {
            "n": [1, 2],
            "x": [0.5, float("nan")],
            "when": pandas.to_datetime(["2026-01-02", None]),
            "raw": [b"\x00", b"\xff"],
            7: ["a", "b"],
        }
    )
    first, second = given(frame)
    assert first == {"n": 1, "x": 0.5, "when": "2026-01-02T00:00:00", "raw": b"\x00", "7": "a"}
    assert type(first["raw"]) is Blob
    assert math.isnan(second.pop("x"))
    assert second == {"n": 2, "when": None, "raw": b"\xff", "7": "b"}


def test_an_index_that_says_something_becomes_a_column_and_a_column_a_list() -> None:
    pandas = library("pandas")
    frame = pandas.DataFrame({"n": [1, 2]}, index=pandas.Index(["a", "b"], name="key"))
    assert given(frame) == [{"key": "a", "n": 1}, {"key": "b", "n": 2}]
    assert given(pandas.Series([1, 2])) == [1, 2]
    assert given({"inside": pandas.Series([1.5], index=["a"])}) == {"inside": {"a": 1.5}}


def test_a_picture_is_a_png_as_binary_data() -> None:
    image = library("PIL.Image")
    for mode in ("RGB", "RGBA", "L", "1", "CMYK"):
        picture = given([image.new(mode, (3, 2))])[0]
        assert isinstance(picture, Blob)
        assert picture.mime_type == "image/png"
        assert image.open(io.BytesIO(picture)).size == (3, 2)


def test_bytes_in_any_place_arrive_as_bytes() -> None:
    import attrs

    @attrs.frozen
    class Page:
        number: int
        body: bytes

    assert given([b"a", {"deep": (bytearray(b"b"), memoryview(b"c"))}]) == [b"a", {"deep": [b"b", b"c"]}]
    assert given(Page(1, b"\xff")) == {"number": 1, "body": b"\xff"}


@pytest.mark.parametrize("number", [math.inf, -math.inf])
def test_infinities_and_nan_arrive_as_themselves(number: float) -> None:
    assert given({"x": [None, number]}) == {"x": [None, number]}
    assert given(number) == number
    assert math.isnan(given(math.nan))
    assert bridge._decoded(encode_result({"x": number}, "give")) == {"x": number}  # in the sandbox, too


def test_a_tool_that_returns_bytes_promises_no_text() -> None:
    def read() -> bytes:
        return b""

    def table() -> dict[str, bytes]:
        return {}

    first, second = ToolSet([read, table]).specs()
    assert first.output_schema is None
    assert "contentEncoding" not in str(second.output_schema)

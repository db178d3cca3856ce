"""Binary data in results: every value arrives as itself, blobs as blobs, on the host and in the sandbox."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import attrs
from agentd.types import Blob
from agentd_skills.sandbox import bridge
from agentd_tools import ToolSet
from agentd_tools.blobs import decode_json
from agentd_tools.results import encode_result
from hypothesis import given, strategies as st

TEXT = st.text() | st.sampled_from(
    ["$blob", "$$blob", "$$$blob", "blob", '"$blob":', ',"$blob":', "a$blob", "\\", "\ud800"]
)
BLOBS = st.builds(Blob, st.binary(max_size=50), st.sampled_from(["image/png", "text/plain"]), TEXT)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
VALUES = st.recursive(
    SCALARS | BLOBS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


def described(value: Any) -> Any:
    """The value with its types spelled out: `1 == True == 1.0`, and a blob equals plain bytes."""
    if isinstance(value, bytes):
        assert isinstance(value, Blob | bridge.Blob)
        return "blob", bytes(value), value.mime_type, value.uri
    if isinstance(value, dict):
        return {k: described(v) for k, v in value.items()}
    if isinstance(value, list):
        return [described(v) for v in value]
    return type(value).__name__, value


@given(VALUES)
def test_any_value_with_blobs_in_it_arrives_as_itself_at_both_ends(value: object) -> None:
    payload = encode_result(value, "give")
    assert described(decode_json(payload)) == described(value)
    assert described(bridge._decoded(payload)) == described(value)


def test_on_the_wire_a_blob_is_an_object_that_other_languages_can_read() -> None:
    payload = encode_result(
        {"picture": Blob(b"\x00\xff", "image/png", "file:///a.png"), "raw": b"hi"}, "give"
    )
    assert json.loads(payload) == {
        "picture": {"$blob": "AP8=", "mime_type": "image/png", "uri": "file:///a.png"},
        "raw": {"$blob": "aGk=", "mime_type": "application/octet-stream", "uri": ""},
    }


def test_a_tool_cannot_forge_a_blob_out_of_a_dictionary() -> None:
    forged = {"$blob": "AP8=", "mime_type": "x/y", "uri": ""}
    assert bridge._decoded(encode_result(forged, "give")) == forged


def test_blobs_in_objects_of_the_tool_arrive_too_and_so_do_numbers_that_json_lacks() -> None:
    @attrs.frozen
    class Page:
        picture: Blob
        note: str | None

    def give() -> Page:
        return Page(Blob(b"\x89PNG", "image/png"), None)

    def odd() -> dict[str, object]:
        return {"picture": Blob(b"a"), "x": float("nan")}

    tools = ToolSet([give, odd])
    result = tools.call_sync("give", {})
    assert isinstance(result, dict)
    assert described(result["picture"]) == ("blob", b"\x89PNG", "image/png", "")
    assert (
        repr(tools.call_sync("odd", {})) == "{'picture': <Blob application/octet-stream, 1 bytes>, 'x': nan}"
    )


def test_in_the_code_a_blob_is_bytes_that_can_be_saved_and_pickled(tmp_path: Path) -> None:
    blob = bridge._decoded(encode_result(Blob(b"abc", "text/x", "a://b"), "give"))
    assert isinstance(blob, bytes)
    assert (blob, blob.decode(), blob.mime_type, blob.uri) == (b"abc", "abc", "text/x", "a://b")
    assert str(blob) == repr(blob) == "<Blob text/x, 3 bytes>"
    saved = blob.save(tmp_path / "a")
    assert Path(saved).read_bytes() == b"abc"
    assert described(pickle.loads(pickle.dumps(blob))) == described(blob)
    assert json.loads(bridge._encoded("take", {"data": blob})) == {"data": "YWJj"}, "as an argument: base64"

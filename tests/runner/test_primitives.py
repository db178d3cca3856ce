"""What the runner takes of the standard library past its wrappers is what the wrappers have."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from agentd_runner.artefact import INSIDE
from agentd_runner.inside.primitives import _built_in, _of_json
from hypothesis import given, strategies as st

BOOT = f"""
import sys
package = sys.modules["_agentd_runner"] = type(sys)("_agentd_runner")
package.__path__ = [{str(INSIDE)!r}]
import _agentd_runner.__main__
print(*sys.modules)
"""

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(values)
def test_json_is_written_and_read_as_by_json_itself(value: object) -> None:
    to_json, from_json = _built_in()
    assert to_json(value) == json.dumps(value).encode() == _of_json()[0](value)
    assert from_json(json.dumps(value).encode()) == value
    assert (
        from_json(json.dumps(value, ensure_ascii=False, indent=1).encode("utf-8", "surrogatepass")) == value
    )


@pytest.mark.parametrize("data", [b"", b"  ", b"x", b"{", b"[1,]", b'{"a" 1}', b"1 2", b'"\n"', b"\xff"])
def test_what_is_no_json_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"JSON|Expecting|Illegal|Unterminated|Invalid|decode|property"):
        _built_in()[1](data)


def test_what_json_does_not_know_is_refused_and_leaves_nothing_behind() -> None:
    to_json, _ = _built_in()
    value: list[object] = [object()]
    with pytest.raises(TypeError):
        to_json(value)
    value[0] = 1
    assert to_json(value) == b"[1]"


def test_a_runner_starts_without_the_wrappers() -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", BOOT],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    assert not {"signal", "socket", "json", "enum", "re", "collections", "typing"} & set(done.stdout.split())

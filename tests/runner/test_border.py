"""What an EXIT frame says to the host, in whatever way it is written."""

from __future__ import annotations

import json
from typing import Any

import pytest
from agentd_runner.host.border import read_exit
from agentd_runner.inside.frames import FrameError
from hypothesis import given, strategies as st

SECONDS = st.floats(0, 1e10) | st.integers(-1, 10**10)
ENDS = st.fixed_dictionaries(
    {
        "status": st.sampled_from(["completed", "failed", "timeout", "gone"]),
        "exit_code": st.integers(-1, 300),
        "wall_s": SECONDS,
        "cpu_s": SECONDS,
        "peak_memory_bytes": st.integers(-1, 1 << 64),
        "message": st.text(),
    }
)


def _read(end: dict[str, Any]) -> dict[str, Any] | None:
    try:
        return read_exit(json.dumps(end).encode())
    except FrameError:
        return None


@given(ENDS)
def test_an_end_is_read_alike_in_the_usual_order_of_its_fields_and_in_another(end: dict[str, Any]) -> None:
    assert _read(end) == _read(dict(reversed(end.items())))


def test_an_end_is_read_as_it_was_sent() -> None:
    end = {
        "status": "failed",
        "exit_code": 255,
        "wall_s": 0.5,
        "cpu_s": 1e-05,
        "peak_memory_bytes": 0,
        "message": "a b",
    }
    assert _read(end) == end
    assert _read({**end, "channels": 3}) == {**end, "channels": 3}


@pytest.mark.parametrize(
    "change", [{"exit_code": 256}, {"wall_s": 1e9}, {"channels": -1}, {"status": "gone"}]
)
def test_an_end_that_no_runner_sends_is_refused(change: dict[str, Any]) -> None:
    end = {"status": "failed", "exit_code": 1, "wall_s": 0, "cpu_s": 0, "peak_memory_bytes": 0, "message": ""}
    assert _read(end) == end
    assert _read(end | change) is None

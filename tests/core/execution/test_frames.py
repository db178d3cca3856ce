"""The frame codec of `agentd_runner.runner`, used by both ends of the pipe."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from agentd_runner import runner
from hypothesis import given
from hypothesis import strategies as st

FRAMES = st.lists(
    st.tuples(st.sampled_from(sorted(runner.TO_HOST)), st.integers(0, 2**32 - 1), st.binary(max_size=300)),
    max_size=8,
)


@given(FRAMES, st.lists(st.integers(1, 40), min_size=1))
def test_frames_come_out_as_they_went_in_however_the_stream_is_cut(
    frames: list[tuple[int, int, bytes]], sizes: list[int]
) -> None:
    stream = b"".join(runner.pack(*frame) for frame in frames)
    reader = runner.FrameReader(runner.TO_HOST)
    got: list[tuple[int, int, bytes]] = []
    position = index = 0
    while position < len(stream):
        size = sizes[index % len(sizes)]
        got += reader.feed(stream[position : position + size])
        position += size
        index += 1
    assert got == frames


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_frames_or_a_frame_error(data: bytes) -> None:
    try:
        runner.FrameReader(runner.TO_RUNNER).feed(data)
    except runner.FrameError:
        pass


def test_a_frame_of_the_wrong_direction_is_refused() -> None:
    with pytest.raises(runner.FrameError, match="unknown frame kind 65"):
        runner.FrameReader(runner.TO_RUNNER).feed(runner.pack(runner.READY, 0, b""))


def test_a_frame_over_the_limit_is_refused_before_its_payload_arrives() -> None:
    header = runner.HEADER.pack(runner.MAX_FRAME + 1, runner.STDOUT, 1)
    with pytest.raises(runner.FrameError, match="at most"):
        runner.FrameReader(runner.TO_HOST).feed(header)


def _talk(data: bytes) -> list[tuple[int, int, bytes]]:
    done = subprocess.run(
        [sys.executable, "-I", runner.__file__], input=data, capture_output=True, timeout=20, check=False
    )
    return runner.FrameReader(runner.TO_HOST).feed(done.stdout)


def test_the_runner_refuses_a_stranger_in_words_and_ends() -> None:
    (kind, _, payload), *rest = _talk(b"GET / HTTP/1.1\r\n\r\n")
    assert kind == runner.FATAL
    assert b"unknown frame kind" in payload
    assert rest == []


def test_the_runner_refuses_another_protocol_version() -> None:
    hello = runner.pack(runner.HELLO, 0, b'{"version": 999}')
    (kind, _, payload), *_ = _talk(hello)
    assert kind == runner.FATAL
    assert b"version 999" in payload


def test_the_runner_refuses_a_limit_that_it_cannot_hold() -> None:
    hello = {"version": runner.VERSION, "workspace": "/", "env": {}, "limits": {"RLIMIT_NICE": 1}}
    (kind, _, payload), *_ = _talk(runner.pack(runner.HELLO, 0, json.dumps(hello).encode()))
    assert kind == runner.FATAL
    assert b"unknown limit RLIMIT_NICE" in payload


def test_the_runner_wants_a_hello_first() -> None:
    (kind, _, payload), *_ = _talk(runner.pack(runner.CANCEL, 1, b""))
    assert kind == runner.FATAL
    assert b"HELLO" in payload


def test_the_runner_imports_the_standard_library_alone() -> None:
    code = (
        "import sys, runpy; sys.argv = ['x']; before = set(sys.modules);"
        f"runpy.run_path({runner.__file__!r}, run_name='not_main');"
        "new = {m.partition('.')[0] for m in set(sys.modules) - before};"
        "print(sorted(new - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

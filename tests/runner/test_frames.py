"""The frame codec of `agentd_runner.inside`, used by both ends of the pipe."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from agentd_runner.artefact import folder_command
from agentd_runner.inside import frames
from hypothesis import given, strategies as st

FRAMES = st.lists(
    st.tuples(
        st.sampled_from(sorted(frames.TO_HOST.keys() - {frames.CLOCK, frames.DROPPED})),
        st.integers(0, 2**32 - 1),
        st.binary(max_size=300),
    ),
    max_size=8,
)


@given(FRAMES, st.lists(st.integers(1, 40), min_size=1))
def test_frames_come_out_as_they_went_in_however_the_stream_is_cut(
    sent: list[tuple[int, int, bytes]], sizes: list[int]
) -> None:
    stream = b"".join(frames.pack(*frame) for frame in sent)
    reader = frames.FrameReader(frames.TO_HOST)
    got: list[tuple[int, int, bytes]] = []
    position = index = 0
    while position < len(stream):
        size = sizes[index % len(sizes)]
        got += reader.feed(stream[position : position + size])
        position += size
        index += 1
    assert got == sent


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_frames_or_a_frame_error(data: bytes) -> None:
    try:
        frames.FrameReader(frames.TO_RUNNER).feed(data)
    except frames.FrameError:
        pass


def test_a_frame_of_the_wrong_direction_is_refused() -> None:
    with pytest.raises(frames.FrameError, match="unknown frame kind 65"):
        frames.FrameReader(frames.TO_RUNNER).feed(frames.pack(frames.READY, 0, b""))


def test_a_frame_over_the_limit_is_refused_before_its_payload_arrives() -> None:
    header = frames.HEADER.pack(frames.MAX_FRAME + 1, frames.STDOUT, 1)
    with pytest.raises(frames.FrameError, match="at most"):
        frames.FrameReader(frames.TO_HOST).feed(header)


def _talk(data: bytes) -> list[tuple[int, int, bytes]]:
    done = subprocess.run(
        folder_command(sys.executable), input=data, capture_output=True, timeout=20, check=False
    )
    return frames.FrameReader(frames.TO_HOST).feed(done.stdout)


def test_the_runner_refuses_a_stranger_in_words_and_ends() -> None:
    (kind, _, payload), *rest = _talk(b"GET / HTTP/1.1\r\n\r\n")
    assert kind == frames.FATAL
    assert b"unknown frame kind" in payload
    assert rest == []


def test_the_runner_refuses_another_protocol_version() -> None:
    hello = frames.pack(frames.HELLO, 0, b'{"version": 999}')
    (kind, _, payload), *_ = _talk(hello)
    assert kind == frames.FATAL
    assert b"version 999" in payload


def test_the_runner_refuses_a_limit_that_it_cannot_hold() -> None:
    hello = {"version": frames.VERSION, "workspace": "/", "env": {}, "limits": {"RLIMIT_NICE": 1}}
    (kind, _, payload), *_ = _talk(frames.pack(frames.HELLO, 0, json.dumps(hello).encode()))
    assert kind == frames.FATAL
    assert b"unknown limit RLIMIT_NICE" in payload


def test_the_runner_wants_a_hello_first() -> None:
    (kind, _, payload), *_ = _talk(frames.pack(frames.CANCEL, 1, b""))
    assert kind == frames.FATAL
    assert b"HELLO" in payload

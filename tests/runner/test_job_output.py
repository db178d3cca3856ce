"""What is kept of a job's output."""

from __future__ import annotations

from agentd_runner.inside.job_output import JobOutput
from hypothesis import given, strategies as st


@given(st.integers(1, 50), st.lists(st.binary(max_size=40), max_size=60))
def test_head_and_tail_are_kept_and_the_middle_is_counted(limit: int, pieces: list[bytes]) -> None:
    output = JobOutput(limit)
    for piece in pieces:
        output.add(piece)
    whole = b"".join(pieces)
    head, tail = limit - limit // 2, limit // 2
    assert output.size == len(whole)
    if len(whole) <= limit:
        assert output.text() == whole
    else:
        note = b"\n[... %d bytes left out ...]\n" % (len(whole) - limit)
        assert output.text() == whole[:head] + note + (whole[-tail:] if tail else b"")


def test_output_in_single_bytes_costs_bytes_and_not_objects() -> None:
    output = JobOutput(100_000)
    for _ in range(60_000):
        output.add(b"x")
    assert len(output.tail) < 1_000
    assert output.text() == b"x" * 60_000


def test_the_last_lines_are_given_alone() -> None:
    output = JobOutput(1000)
    output.add(b"one\ntwo\nthree\npart")
    assert [output.text(lines) for lines in (0, 1, 2, 99)] == [
        b"",
        b"part",
        b"three\npart",
        b"one\ntwo\nthree\npart",
    ]

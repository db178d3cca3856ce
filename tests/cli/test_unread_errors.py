"""Standard error of a server whose client does not read it, with real processes and pipes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from agentd_cli.unread_errors import _KeptErrors
from hypothesis import given, strategies as st

BEGIN = "import os, subprocess, sys\nfrom agentd_cli.unread_errors import relayed_errors\n"
LINES = 40_000
FLOOD = f"for number in range({LINES}): print(f'line {{number:06}}' + 'x' * 50, file=sys.stderr)\n"


def started(code: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", BEGIN + code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_what_nobody_reads_stops_nothing_and_whoever_reads_later_is_told_what_is_left_out() -> None:
    code = f"""
with relayed_errors():
    {FLOOD}
    print("here", flush=True)
    sys.stdin.readline()
    print("the last", file=sys.stderr)
"""
    with started(code) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"here\n"  # 2 MB were written
        lines: list[str] = []
        while not lines or not lines[-1].startswith("agentd: "):
            lines.append(process.stderr.readline().decode())
        *kept, told = lines
        assert process.communicate(b"\n", 60)[1] == b"the last\n"
    assert kept == [f"line {number:06}" + "x" * 50 + "\n" for number in range(len(kept))]
    assert len("".join(kept)) > 1 << 20
    assert told == f"agentd: {LINES - len(kept):,} lines are left out here, as nobody has read them\n"


def test_whoever_never_reads_does_not_hold_up_the_end_nor_the_error_with_which_it_comes() -> None:
    code = f"""
with relayed_errors():
    {FLOOD}
{FLOOD}
"""
    with started(code) as process:
        assert process.wait(60) == 0
        assert process.stderr is not None


def test_what_is_written_before_the_end_is_there_whoever_wrote_it() -> None:
    code = """
with relayed_errors():
    print("one", file=sys.stderr)
    subprocess.run([sys.executable, "-c", "import sys; print('two', file=sys.stderr)"])
    os.write(2, b"three\\n")
print("four", file=sys.stderr)
"""
    with started(code) as process:
        assert process.communicate(timeout=60) == (b"", b"one\ntwo\nthree\nfour\n")


def test_the_last_word_of_an_end_at_once_is_there() -> None:
    code = """
from agentd_cli.interrupts import end_now
with relayed_errors():
    end_now(3, "it ends now")
"""
    with started(code) as process:
        assert process.communicate(timeout=60) == (b"", b"agentd: it ends now\n")
        assert process.returncode == 3


def test_a_reader_that_has_gone_is_not_waited_for() -> None:
    code = f"""
with relayed_errors():
    sys.stdin.readline()
    {FLOOD}
    print("here", flush=True)
"""
    with started(code) as process:
        assert process.stderr is not None
        process.stderr.close()
        process.stderr = None
        assert process.communicate(b"\n", 60)[0] == b"here\n"


def test_a_file_stays_what_it_is(tmp_path: Path) -> None:
    code = "with relayed_errors():\n    print(os.fstat(2).st_ino)\n"
    with open(tmp_path / "log", "wb") as log:
        done = subprocess.run(
            [sys.executable, "-c", BEGIN + code], stderr=log, stdout=subprocess.PIPE, timeout=60, check=True
        )
        assert int(done.stdout) == os.fstat(log.fileno()).st_ino


@given(st.lists(st.binary(max_size=12).map(lambda text: text.replace(b"\r", b"\n")) | st.integers(1, 8)))
def test_only_whole_lines_are_left_out_and_all_of_them_are_counted(steps: list[bytes | int]) -> None:
    kept = _KeptErrors(most_bytes=16)
    written, read = b"", b""
    for step in (*steps, b"\n", *[64] * 20):
        if isinstance(step, bytes):
            written += step
            kept.add(step)
        else:
            read += kept.waiting[:step]
            kept.passed(step)
        assert len(kept.waiting) <= 100
    told = [line for line in read.splitlines() if line.startswith(b"agentd: ")]
    left_out = sum(int(line.split()[1]) for line in told)
    rest = read
    for line in told:
        rest = rest.replace(line + b"\n", b"", 1)
    if not told:
        assert rest == written
    assert written.count(b"\n") <= rest.count(b"\n") + left_out
    assert left_out <= written.count(b"\n") + 1

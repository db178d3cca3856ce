"""Output: apart, in order, live, bounded, any bytes."""

from __future__ import annotations

import resource

from agentd.types import BashAction, Limits, PythonAction
from agentd_executor_subprocess.executor import SubprocessExecutor


def test_the_middle_of_a_flood_is_dropped_and_counted(tmp_path: object) -> None:
    limits = Limits(output_bytes=1000)
    with SubprocessExecutor(str(tmp_path), limits=limits) as executor:
        result = executor.run_sync(
            PythonAction(code="import sys; sys.stdout.write('H' * 600 + 'm' * 10**6 + 'T' * 500)")
        )
        text = result.stdout
        assert text.startswith(b"H" * 500)
        assert text.endswith(b"T" * 500)
        assert result.dropped_bytes == 600 + 10**6 + 500 - 1000
        assert b"[... %d bytes left out ...]" % result.dropped_bytes in text


def test_a_gigabyte_passes_without_filling_the_host(executor: SubprocessExecutor) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = executor.run_sync(BashAction(command="head -c 1000000000 /dev/zero; echo end"))
    assert result.stdout.endswith(b"end\n")
    assert result.dropped_bytes > 990_000_000
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kib < 60 * 1024


def test_a_full_disk_behind_stdout_is_an_exit_code(executor: SubprocessExecutor) -> None:
    output, code = executor.execute_bash("python -c 'print(1)' > /dev/full")
    assert code != 0
    assert "No space left" in output


def test_what_it_used_is_measured(executor: SubprocessExecutor) -> None:
    result = executor.run_sync(PythonAction(code="x = bytearray(60_000_000)\nsum(range(1_000_000))"))
    assert result.peak_memory_bytes > 60_000_000
    assert 0 < result.cpu_s < 20
    assert result.wall_s >= 0


def test_a_python_that_code_starts_unbuffered_has_its_streams(executor: SubprocessExecutor) -> None:
    assert executor.execute_bash("python3 -u -c 'print(1)'; PYTHONUNBUFFERED=1 python3 -c 'print(2)'") == (
        "1\n2\n",
        0,
    )

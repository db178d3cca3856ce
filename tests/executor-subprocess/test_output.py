"""Output: apart, in order, live, bounded, any bytes."""

from __future__ import annotations

import resource
from pathlib import Path

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


def test_a_character_that_comes_in_parts_is_whole_whatever_comes_between(
    executor: SubprocessExecutor,
) -> None:
    code = (
        "import os, time\n"
        "parts = [(1, b'caf\\xc3'), (2, b'\\xe2\\x82'), (1, b'\\xa9!'), (2, b'\\xac'), (1, b'\\xff\\xc3')]\n"
        "for number, data in parts:\n"
        "    os.write(number, data)\n"
        "    time.sleep(0.05)\n"
    )
    chunks: list[str] = []
    result = executor.run_sync(PythonAction(code=code), on_output=lambda chunk: chunks.append(chunk.stream))
    assert chunks == ["stdout", "stderr", "stdout", "stderr", "stdout"]
    assert result.output == "caf\xe9!\u20ac\ufffd\ufffd"


def test_a_character_that_the_limit_cuts_is_replaced(tmp_path: Path) -> None:
    with SubprocessExecutor(tmp_path, limits={"output_bytes": 9}) as executor:
        result = executor.execute_python("print('\\u20ac' * 100, end='')")[0]
    assert result == "\u20ac\ufffd\n[... 291 bytes left out ...]\n\ufffd\u20ac"

"""Output: apart, in order, live, bounded, any bytes."""

from __future__ import annotations

import resource
import threading

from agentd.types import BashAction, Limits, OutputChunk, PythonAction
from agentd_executor_subprocess.executor import SubprocessExecutor


def test_stdout_and_stderr_come_apart_and_as_any_bytes(executor: SubprocessExecutor) -> None:
    """0.8.6: output that was no UTF-8 failed; stderr lines with certain words were dropped."""
    result = executor.run_sync(BashAction(command=r"printf 'a\xff\x00b'; printf 'sandbox srt' >&2; exit 5"))
    assert result.stdout == b"a\xff\x00b"
    assert result.stderr == b"sandbox srt"
    assert result.exit_code == 5
    assert result.status == "failed"


def test_output_arrives_while_the_code_runs(executor: SubprocessExecutor) -> None:
    seen: list[OutputChunk] = []
    arrived = threading.Event()

    def on_output(chunk: OutputChunk) -> None:
        seen.append(chunk)
        (executor.workspace_dir / "go").touch()  # the block waits for this: it must see its output go out
        arrived.set()

    code = (
        "import os, time\nprint('first')\nwhile not os.path.exists('go'): time.sleep(0.005)\nprint('second')"
    )
    result = executor.run_sync(PythonAction(code=code, timeout_s=15), on_output=on_output)
    assert arrived.is_set()
    assert result.exit_code == 0
    assert b"".join(c.data for c in seen) == b"first\nsecond\n"


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

"""One gigabyte (10**9 bytes) through a bash block: `head -c 1000000000 /dev/zero`.

Ours: rate from the action's begin to its result, and the host process's peak RSS (VmHWM) with
everything imported.
Theirs: not measured: 4 KiB every 50 ms makes it more than three hours, all of it kept in memory.
Floor: a loop of `readv` on the pipe of the same command."""

from __future__ import annotations

import os
import time
from pathlib import Path

from benchmarks.kit import memory_mib, note
from benchmarks.line import Figures, Line, Row

LINE = Line(
    name="bash_flood",
    rows=(
        Row(key="mb_per_s", title="1 GB through a block", unit="MB/s", more=True, limit=120),
        Row(key="rss_mib", title="  the host's peak memory (RSS)", unit="MiB", limit=57.2),  # 60 MB
    ),
    rounds=2,
)
COMMAND = "head -c {size} /dev/zero"


def ours(quick: bool) -> Figures:
    """The subprocess executor with its default limits."""
    import asyncio

    from agentd.types import BashAction
    from agentd_executor_subprocess.executor import SubprocessExecutor

    size = 10**8 if quick else 10**9

    async def awaited() -> float:
        executor = SubprocessExecutor(workspace_dir=Path.cwd())
        try:
            await executor.run(BashAction(command="true"))
            begin = time.perf_counter()
            result = await executor.run(BashAction(command=COMMAND.format(size=size)))
            took = time.perf_counter() - begin
            assert result.exit_code == 0, result.output[-200:]
            missing = size - len(result.stdout) - result.dropped_bytes  # below 0: the note about the cut
            assert -200 < missing <= 0, f"{missing} bytes are missing"
        finally:
            await executor.aclose()
        return size / 1e6 / took

    rate = asyncio.run(awaited())
    return {"mb_per_s": rate, "rss_mib": memory_mib("VmHWM")}


def theirs(quick: bool) -> Figures:
    """Only a note."""
    note("0.8.6 is not measured: at 4 KiB every 50 ms, 1 GB takes more than three hours")
    return {}


def floor(quick: bool) -> Figures:
    """Read and throw away."""
    import subprocess

    size = 10**8 if quick else 10**9
    begin = time.perf_counter()
    process = subprocess.Popen(["bash", "-c", COMMAND.format(size=size)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    buffer = bytearray(1 << 20)
    while os.readv(process.stdout.fileno(), [buffer]):
        pass
    process.stdout.close()
    process.wait()
    return {"mb_per_s": size / 1e6 / (time.perf_counter() - begin)}

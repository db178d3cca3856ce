"""The output of a bash block: `cat` of a text file of 64 KiB, and of 1 MB.

Ours: `await executor.run(BashAction(command="cat FILE"))`, the whole output in the result.
Theirs: `execute_bash`, which reads 4 KiB every 50 ms.
Floor: `subprocess.run(["bash", "-c", "cat FILE"], capture_output=True)`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from benchmarks.kit import amedian_ms, median_ms
from benchmarks.line import Figures, Line, Row

LINE = Line(
    name="bash_output",
    rows=(
        Row(key="kib64_ms", title="64 KiB of bash output", unit="ms", ratio=100),
        Row(key="mb1_ms", title="1 MB of bash output", unit="ms", ratio=500),
    ),
    rounds=2,
)
SIZES = {"kib64_ms": 65_536, "mb1_ms": 1_000_000}


def _write(here: Path, size: int) -> str:
    """Write a text file of lines of 80 characters and return the command that prints it."""
    text = ("0123456789" * 8)[:79] + "\n"
    (here / f"{size}.txt").write_text((text * (size // 80 + 1))[:size])
    return f"cat {size}.txt"


def ours(quick: bool) -> Figures:
    """The subprocess executor; the size of the result is checked."""
    import asyncio

    from agentd.types import BashAction
    from agentd_executor_subprocess.executor import SubprocessExecutor

    here = Path.cwd()

    async def awaited() -> Figures:
        executor = SubprocessExecutor(workspace_dir=here)
        figures: Figures = {}
        try:
            for key, size in SIZES.items():
                command = _write(here, size)
                result = await executor.run(BashAction(command=command))
                assert len(result.stdout) == size, f"{len(result.stdout)} of {size} bytes"
                count = 10 if quick else 40
                action = BashAction(command=command)
                figures[key] = await amedian_ms(partial(executor.run, action), count=count)
        finally:
            await executor.aclose()
        return figures

    return asyncio.run(awaited())


def theirs(quick: bool) -> Figures:
    """Its executor, few times: 1 MB takes more than ten seconds."""
    from agentd.ptc import SubprocessExecutor  # type: ignore[import-not-found]

    here = Path.cwd()
    executor = SubprocessExecutor()
    executor.execute_bash("true", here)
    figures: Figures = {}
    for key, size in SIZES.items():
        command = _write(here, size)
        count = 1 if quick or size > 100_000 else 3
        figures[key] = median_ms(partial(executor.execute_bash, command, here), count=count, warm=0)
    executor.close()
    return figures


def floor(quick: bool) -> Figures:
    """A process and a pipe."""
    import subprocess

    figures: Figures = {}
    for key, size in SIZES.items():
        argv = ["bash", "-c", _write(Path.cwd(), size)]
        run = partial(subprocess.run, argv, capture_output=True)
        figures[key] = median_ms(run, count=10 if quick else 40)
    return figures

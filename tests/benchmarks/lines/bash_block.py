"""A bash block that runs `/bin/true`, on an executor that has run one before.

Ours: `await executor.run(BashAction(command="/bin/true"))`; the second row is the sync protocol's
`execute_bash`.
Theirs: `SubprocessExecutor().execute_bash`, a marker in the output of one long-lived shell; the third
row compares with its `execute_bash_async`, a `/bin/sh` without state for each block.
Floor: `posix_spawn` of `bash -c /bin/true` and `waitpid`."""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks.kit import amedian_ms, median_ms
from benchmarks.line import Figures, Line, Row

LINE = Line(
    name="bash_block",
    rows=(
        Row(key="run_ms", title="bash block, /bin/true", unit="ms", ratio=12, floor=4),
        Row(key="sync_ms", title="  by the sync protocol", unit="ms", ratio=12),
        Row(key="async_ms", title="  against the stateless async path of 0.8.6", unit="ms"),
    ),
)
COMMAND = "/bin/true"


def ours(quick: bool) -> Figures:
    """The subprocess executor, awaited and by its sync protocol."""
    import asyncio

    from agentd.types import BashAction
    from agentd_executor_subprocess.executor import SubprocessExecutor

    here = Path.cwd()
    count = 30 if quick else 150

    async def awaited() -> float:
        executor = SubprocessExecutor(workspace_dir=here)
        try:
            return await amedian_ms(lambda: executor.run(BashAction(command=COMMAND)), count=count)
        finally:
            await executor.aclose()

    took = asyncio.run(awaited())
    with SubprocessExecutor(workspace_dir=here) as executor:
        sync = median_ms(lambda: executor.execute_bash(COMMAND, here), count=count)
    return {"run_ms": took, "sync_ms": sync, "async_ms": took}


def theirs(quick: bool) -> Figures:
    """Its executor; `run` and `sync` are the same call."""
    import asyncio

    from agentd.ptc import SubprocessExecutor  # type: ignore[import-not-found]

    here = Path.cwd()
    count = 10 if quick else 30
    executor = SubprocessExecutor()
    sync = median_ms(lambda: executor.execute_bash(COMMAND, here), count=count)
    executor.close()

    async def awaited() -> float:
        return await amedian_ms(lambda: executor.execute_bash_async(COMMAND, here), count=count)

    return {"run_ms": sync, "sync_ms": sync, "async_ms": asyncio.run(awaited())}


def floor(quick: bool) -> Figures:
    """One process, started and awaited."""

    def spawn() -> None:
        pid = os.posix_spawn("/bin/bash", ["bash", "-c", COMMAND], os.environ)
        os.waitpid(pid, 0)

    took = median_ms(spawn, count=30 if quick else 150)
    return {"run_ms": took, "sync_ms": took, "async_ms": took}

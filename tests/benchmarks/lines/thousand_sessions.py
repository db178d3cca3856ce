"""1,000 open sessions in one process (100 with --quick), started in batches of 20.

Ours: sessions opened, their executors started and one `true` run in each, all left open: the time for
each start, and for opening, start and block together; the proportional set size (PSS) of all processes
below this one for each, when they have been idle for 15 s and, for information, before that; and the
host's threads beyond those of its thread pools.
Theirs: 100 of its executors, one `true` in each (they start their shell with the first block).
Floor: bare `python -I -S` processes that wait for input."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

from benchmarks.kit import descendants, memory_mib, pss_mib, threads
from benchmarks.line import Figures, Line, Row

LINE = Line(
    name="thousand_sessions",
    rows=(
        Row(key="start_ms", title="1,000 open sessions: start of each", unit="ms", limit=30),
        Row(key="first_ms", title="  with its first block, true", unit="ms", limit=30),
        Row(key="pss_mib", title="  memory of each (PSS of its processes)", unit="MiB", limit=7.63),  # 8 MB
        Row(key="busy_mib", title="  the same before they are idle", unit="MiB"),
        Row(key="threads", title="  host threads beyond the pool", unit="", limit=4),
        Row(key="processes", title="  processes of each", unit=""),
        Row(key="host_mib", title="  host memory for each (RSS)", unit="MiB"),
    ),
    rounds=1,
)
BATCH = 20
IDLE_S = 15.0


def ours(quick: bool) -> Figures:
    """Sessions with the subprocess executor. They are never asked anything, so the model is a name."""
    import asyncio
    from contextlib import AsyncExitStack

    from agentd import Session
    from agentd.types import BashAction

    count = 100 if quick else 1000
    _allow_open_files(16 * count)

    async def first_block(session: Session) -> None:
        result = await session.executor.run(BashAction(command="true"))
        assert result.exit_code == 0, result.output

    async def measure() -> Figures:
        async with AsyncExitStack() as stack:
            warm = await stack.enter_async_context(Session("gpt-4o", cwd="warm", tools=[]))
            await first_block(warm)  # imports and the threads that all sessions share
            before_mib = memory_mib()
            below = set(descendants())
            begin = time.perf_counter()
            start_s = 0.0
            for start in range(0, count, BATCH):
                names = [f"session-{number}" for number in range(start, start + BATCH)]
                sessions = [Session("gpt-4o", cwd=name, tools=[]) for name in names]
                for session in sessions:
                    await stack.enter_async_context(session)
                started = time.perf_counter()
                await asyncio.gather(*(session.executor.start() for session in sessions))
                start_s += time.perf_counter() - started
                await asyncio.gather(*map(first_block, sessions))
            took = time.perf_counter() - begin
            busy = [pid for pid in descendants() if pid not in below]
            busy_mib = sum(map(pss_mib, busy))
            await asyncio.sleep(IDLE_S)
            idle = [pid for pid in descendants() if pid not in below]
            return {
                "start_ms": start_s / count * 1000,
                "first_ms": took / count * 1000,
                "busy_mib": busy_mib / count,
                "pss_mib": sum(map(pss_mib, idle)) / count,
                "processes": len(idle) / count,
                "threads": _threads_beyond_the_pools(),
                "host_mib": (memory_mib() - before_mib) / count,
            }

    return asyncio.run(measure())


def _allow_open_files(wanted: int) -> None:
    """Raise the soft limit of open files towards the hard one: each session holds some pipes."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _threads_beyond_the_pools() -> int:
    """Count the host's threads without the main one and the workers of the pools, anyio's and agentd's bounded one."""
    pooled = sum(
        thread.name.startswith(("AnyIO worker", "agentd-worker")) for thread in threading.enumerate()
    )
    return threads() - 1 - pooled


def theirs(quick: bool) -> Figures:
    """A shell for each executor."""
    from agentd.ptc import SubprocessExecutor  # type: ignore[import-not-found]

    count = 20 if quick else 100
    before_threads, before_mib = threads(), memory_mib()
    executors = [SubprocessExecutor() for _ in range(count)]
    begin = time.perf_counter()
    for number, executor in enumerate(executors):
        folder = Path(f"session-{number}")
        folder.mkdir()
        executor.execute_bash("true", folder)
    took = time.perf_counter() - begin
    figures: Figures = {
        "start_ms": took / count * 1000,
        "pss_mib": sum(map(pss_mib, descendants())) / count,
        "processes": len(descendants()) / count,
        "threads": threads() - before_threads,
        "host_mib": (memory_mib() - before_mib) / count,
    }
    for executor in executors:
        executor.close()
    return figures


def floor(quick: bool) -> Figures:
    """An interpreter for each."""
    count = 50 if quick else 200
    argv = [sys.executable, "-I", "-S", "-c", "import sys; print(flush=True); sys.stdin.read()"]
    processes = []
    begin = time.perf_counter()
    for _ in range(count):
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        processes.append(process)
    took = time.perf_counter() - begin
    pss = sum(map(pss_mib, descendants())) / count
    for process in processes:
        process.communicate()
    return {"start_ms": took / count * 1000, "pss_mib": pss}

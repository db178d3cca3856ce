"""A Python block whose only line imports a tool's binding: `from lib.tools import echo`.

Ours: `await executor.run(PythonAction(...))` on a warm runner with bindings attached.
Theirs: `execute_python` with its generated `lib/tools.py`: a file, an interpreter from PATH, one
process.
Floor: `os.fork`, `os._exit` in the child and `waitpid`, in a process made as large as our runner is
(its RSS is the second row)."""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks.kit import amedian_ms, descendants, median_ms, memory_mib
from benchmarks.line import Figures, Line, Row
from benchmarks.tools import our_tools, their_tools

LINE = Line(
    name="python_block",
    rows=(
        Row(key="run_ms", title="Python block that imports the bindings", unit="ms", ratio=15, floor=5),
        Row(key="runner_mib", title="  the process that is forked (RSS)", unit="MiB"),
    ),
)
CODE = "from lib.tools import echo\n"
RUNNER_MIB = 20


def ours(quick: bool) -> Figures:
    """The subprocess executor."""
    import asyncio

    from agentd.types import PythonAction
    from agentd_executor_subprocess.executor import SubprocessExecutor

    async def awaited() -> Figures:
        executor = SubprocessExecutor(workspace_dir=Path.cwd())
        async with our_tools(executor):
            try:
                result = await executor.run(PythonAction(code=CODE))
                assert result.exit_code == 0, result.output
                runner = max((memory_mib(pid=pid) for pid in descendants()), default=0.0)
                action = PythonAction(code=CODE)
                took = await amedian_ms(lambda: executor.run(action), count=30 if quick else 150)
            finally:
                await executor.aclose()
        return {"run_ms": took, "runner_mib": runner}

    return asyncio.run(awaited())


def theirs(quick: bool) -> Figures:
    """Its executor with its bindings."""
    executor, skills = their_tools()
    here = Path.cwd()
    output, code = executor.execute_python(CODE, here, pythonpath=skills)
    assert code == 0, output
    took = median_ms(
        lambda: executor.execute_python(CODE, here, pythonpath=skills), count=10 if quick else 40
    )
    executor.close()
    return {"run_ms": took}


def floor(quick: bool) -> Figures:
    """A fork of a process that has touched as much memory."""
    ballast = bytearray(max(0, int((RUNNER_MIB - memory_mib()) * 1024 * 1024)))
    ballast[:: os.sysconf("SC_PAGESIZE")] = b"x" * len(ballast[:: os.sysconf("SC_PAGESIZE")])

    def fork() -> None:
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)

    return {"run_ms": median_ms(fork, count=100 if quick else 400), "runner_mib": memory_mib()}

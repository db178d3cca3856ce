"""A call with 1 MB as its argument and 1 MB as its result, of `@tool def same(x: str) -> str` from a Python block.

Ours: `call_ms` is that of a fresh block, whose thread speaks with the host itself; `kept_ms` the same of a kept
interpreter; `runner_ms` that of another thread there, whose calls go through the runner, as they do under srt and in
microVMs. Each times 40 calls of its own.
Theirs, of all rows: the same block, through its HTTP bridge.
Floor: 1 MB there and back over a Unix socket pair between two processes."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Literal

from benchmarks.kit import median_ms
from benchmarks.line import Figures, Line, Row
from benchmarks.tools import our_tools, their_tools

SIZE = 1_000_000
LINE = Line(
    name="tool_call_1mb",
    rows=(
        Row(key="call_ms", title="tool call, 1 MB there and back, p50", unit="ms"),
        Row(key="kept_ms", title="  in a kept interpreter", unit="ms"),
        Row(key="runner_ms", title="  through the runner", unit="ms"),
    ),
)
CODE = """
import statistics, time
from lib.tools import same

text = "x" * {size}
times = []
for _ in range({count}):
    begin = time.perf_counter()
    assert len(same(x=text)) == {size}
    times.append(time.perf_counter() - begin)
print(statistics.median(times[2:]) * 1000)
"""
IN_THREAD = """
import threading

def calls():
    {calls}

thread = threading.Thread(target=calls)
thread.start()
thread.join()
"""


def ours(quick: bool) -> Figures:
    """The subprocess executor and a tool set."""
    import asyncio

    from agentd.types import PythonAction
    from agentd_executor_subprocess.executor import SubprocessExecutor

    async def awaited() -> Figures:
        executor = SubprocessExecutor(workspace_dir=Path.cwd())
        code = CODE.format(size=SIZE, count=12 if quick else 40)
        in_thread = IN_THREAD.format(calls=code.replace("\n", "\n    "))

        async def measured(state: Literal["fresh", "kept"], code: str = code) -> float:
            result = await executor.run(PythonAction(code=code, state=state))
            assert result.exit_code == 0, result.output
            return float(result.stdout)

        async with our_tools(executor):
            try:
                return {
                    "call_ms": await measured("fresh"),
                    "kept_ms": await measured("kept"),
                    "runner_ms": await measured("kept", in_thread),
                }
            finally:
                await executor.aclose()

    return asyncio.run(awaited())


def theirs(quick: bool) -> Figures:
    """Its executor and its bridge."""
    executor, skills = their_tools()
    code = CODE.format(size=SIZE, count=12 if quick else 40)
    output, status = executor.execute_python(code, Path.cwd(), pythonpath=skills)
    assert status == 0, output
    took = float(output.splitlines()[-1])
    executor.close()
    return dict.fromkeys(("call_ms", "kept_ms", "runner_ms"), took)


def floor(quick: bool) -> Figures:
    """A child process that sends everything back."""
    near, far = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        near.close()
        while True:
            data = bytearray()
            while len(data) < SIZE:
                if not (part := far.recv(1 << 18)):
                    os._exit(0)
                data += part
            far.sendall(data)
    far.close()
    data = b"x" * SIZE
    back = bytearray(SIZE)

    def call() -> None:
        near.sendall(data)
        got = 0
        while got < SIZE:
            got += near.recv_into(memoryview(back)[got:])

    took = median_ms(call, count=10 if quick else 40)
    near.close()
    os.waitpid(pid, 0)
    return dict.fromkeys(("call_ms", "kept_ms", "runner_ms"), took)

"""A tool call from a Python block: `@tool def echo(x: int) -> int`, imported with `from lib.tools import
echo`.

Ours and theirs run the same block, which times its own calls: sequentially (the median of one call),
then from 8 threads (calls in a second). Theirs goes through the generated HTTP bindings to its bridge;
a process for the block, a thread with a web server in the host. The third row counts the TCP sockets
that the host and its children listen on while a block runs.
`kept_ms` is the median of a call from a block of a kept interpreter; theirs has none, so it is the other once more.
Floor: messages of a small call's size there and back over two pipes between two CPython processes, of which one
waits by epoll; for 8 threads, the same one pair."""

from __future__ import annotations

import json
import os
import select
import time
from pathlib import Path

from benchmarks.kit import listening_ports, median_ms
from benchmarks.line import Figures, Line, Row
from benchmarks.tools import our_tools, their_tools

LINE = Line(
    name="tool_calls",
    rows=(
        Row(key="call_ms", title="tool call from a Python block, sequential p50", unit="ms", ratio=4),
        Row(key="kept_ms", title="  in a kept interpreter", unit="ms", ratio=4),
        Row(key="per_s", title="  from 8 threads", unit="calls/s", more=True, ratio=8),
        Row(key="ports", title="  TCP ports that the host opened for it", unit="", limit=0),
    ),
)
CODE = """
import json, statistics, threading, time
from lib.tools import echo

assert echo(x=7) == 7, echo(x=7)
times = []
for i in range({sequential}):
    begin = time.perf_counter()
    echo(x=i)
    times.append(time.perf_counter() - begin)

def work():
    for i in range({each}):
        echo(x=i)

threads = [threading.Thread(target=work) for _ in range(8)]
begin = time.perf_counter()
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
took = time.perf_counter() - begin
print(json.dumps([statistics.median(times) * 1000, 8 * {each} / took]))
"""


def ours(quick: bool) -> Figures:
    """The subprocess executor and a tool set."""
    import asyncio

    from agentd.types import PythonAction
    from agentd_executor_subprocess.executor import SubprocessExecutor

    async def awaited() -> Figures:
        before = listening_ports()
        executor = SubprocessExecutor(workspace_dir=Path.cwd())
        async with our_tools(executor):
            try:
                code = CODE.format(sequential=500 if quick else 3000, each=250 if quick else 1000)
                result = await executor.run(PythonAction(code=code))
                assert result.exit_code == 0, result.output
                p50, rate = json.loads(result.stdout)
                kept = await executor.run(PythonAction(code=code, state="kept"))
                assert kept.exit_code == 0, kept.output
                ports = listening_ports() - before
            finally:
                await executor.aclose()
        return {"call_ms": p50, "kept_ms": json.loads(kept.stdout)[0], "per_s": rate, "ports": ports}

    return asyncio.run(awaited())


def theirs(quick: bool) -> Figures:
    """Its executor and its bridge."""
    before = listening_ports()
    executor, skills = their_tools()
    code = CODE.format(sequential=200 if quick else 1000, each=50 if quick else 200)
    output, status = executor.execute_python(code, Path.cwd(), pythonpath=skills)
    assert status == 0, output
    p50, rate = json.loads(output.splitlines()[-1])
    ports = listening_ports() - before
    executor.close()
    return {"call_ms": p50, "kept_ms": p50, "per_s": rate, "ports": ports}


def floor(quick: bool) -> Figures:
    """A child process that answers each message."""
    requests, our_requests = os.pipe()
    our_answers, answers = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(our_requests)
        waiting = select.epoll()
        waiting.register(requests, select.EPOLLIN)
        while waiting.poll() and os.read(requests, 4096):
            os.write(answers, b"\0\0\0\5\x001000")
        os._exit(0)
    os.close(requests)

    def call() -> None:
        os.write(our_requests, b'\0\0\0\x10\0\4echo{"x":1000}')
        os.read(our_answers, 4096)

    count = 1000 if quick else 5000
    p50 = median_ms(call, count=count)
    begin = time.perf_counter()
    for _ in range(count):
        call()
    rate = count / (time.perf_counter() - begin)
    os.close(our_requests)
    os.waitpid(pid, 0)
    os.close(our_answers)
    os.close(answers)
    return {"call_ms": p50, "kept_ms": p50, "per_s": rate, "ports": 0}

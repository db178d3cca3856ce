"""The executor `native`: a start to the end of the first block, what blocks and calls cost, what a session holds.

Ours: the start of a sandbox until its first bash block has ended, and the same where one was started ahead; then
`/bin/true` in a bash block, an empty Python block, and tool calls from a Python block; the memory (PSS) and the
processes of an open session after a bash block; two hundred sessions open in one process, a block in each: what one
takes to start.
Theirs: the first bash block of its `SandboxRuntimeExecutor`, which is the sandbox that 0.8.6 has, with its srt.
Floor: the same with the executor `srt`, of start, memory and processes; blocks and calls on `subprocess`."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from benchmarks.kit import note
from benchmarks.line import Figures, Line, Row
from benchmarks.lines.srt import CLI, NODE, _blocks, _least_ms, _must_work
from benchmarks.reference import SRT, SRT_PACKAGE, install_reference_srt

LINE = Line(
    name="native",
    rows=(
        Row(
            key="first_ms",
            title="start of a native sandbox to the end of its first bash block; floor: srt",
            unit="ms",
            floor=1 / 8,
        ),
        Row(
            key="ready_ms",
            title="  the same with a sandbox that is ready; floor: srt",
            unit="ms",
            floor=1 / 25,
        ),
        Row(
            key="bash_ms",
            title="bash block in native, /bin/true; floor: not sandboxed",
            unit="ms",
            floor=1.15,
        ),
        Row(key="python_ms", title="Python block in native; floor: not sandboxed", unit="ms", floor=1.15),
        Row(
            key="call_ms", title="tool call from inside native, p50; floor: not sandboxed", unit="ms", floor=2
        ),
        Row(
            key="pss_mib", title="memory (PSS) of an open native session; floor: srt", unit="MiB", floor=1 / 5
        ),
        Row(key="processes", title="processes of an open native session; floor: srt", unit="", floor=7 / 17),
        Row(key="each_ms", title="start of each of 200 native sessions, with a block", unit="ms", limit=40),
    ),
    prepare_theirs=install_reference_srt,
)
MANY = 200


def _below(pid: int) -> list[int]:
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(status.parent.name)] = int(words[1])
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def _pss_mib(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def _opened(make: Any, quick: bool) -> Figures:
    """The least time to the end of the first block, and what the session holds then."""

    def first() -> float:
        executor = make()
        begin = time.perf_counter()
        executor.execute_bash("true")
        took = time.perf_counter() - begin
        executor.close()
        return took

    figures: Figures = {"first_ms": min(first() for _ in range(4 if quick else 12)) * 1000}
    with make() as executor:
        executor.execute_bash("true")
        time.sleep(0.5)  # the spare workers are made
        pids = _below(executor._connection.process.pid)
        figures["processes"] = float(len(pids))
        figures["pss_mib"] = sum(map(_pss_mib, pids))
    return figures


def _ready(quick: bool) -> list[float]:
    """The time to the end of the first block of sessions that take over what is ready."""
    from agentd_executor_native.executor import NativeExecutor

    times = []
    for _ in range(5 if quick else 13):
        executor = NativeExecutor(Path.cwd() / "ready", prewarm=1)
        begin = time.perf_counter()
        executor.execute_bash("true")
        times.append(time.perf_counter() - begin)
        time.sleep(1.0)  # the next one is started
        executor.close()
    return times[1:]


def ours(quick: bool) -> Figures:
    """Sandboxes one by one, and many at a time."""
    from agentd_executor_native.executor import NativeExecutor

    figures = _opened(lambda: NativeExecutor(Path.cwd() / "started"), quick)
    figures["ready_ms"] = min(_ready(quick)) * 1000
    figures |= _blocks(NativeExecutor(Path.cwd() / "work"), quick)
    count = 20 if quick else MANY
    made = [NativeExecutor(Path.cwd() / "many" / str(number)) for number in range(count)]
    try:
        begin = time.perf_counter()
        for executor in made:
            assert executor.execute_bash("echo on") == ("on\n", 0)
        figures["each_ms"] = (time.perf_counter() - begin) * 1000 / count
    finally:
        for executor in made:
            executor.close()
    return figures


def theirs(quick: bool) -> Figures:
    """A sandbox for each block: the first is like all others."""
    from agentd.sandbox_runtime_executor import SandboxRuntimeExecutor  # type: ignore[import-not-found]

    if NODE.is_dir():
        os.environ["PATH"] = f"{NODE}{os.pathsep}{os.environ['PATH']}"
    note(f"0.8.6 ran with {SRT_PACKAGE}")
    executor = SandboxRuntimeExecutor(base_dir=Path.cwd() / "base", srt_path=str(SRT))
    here = executor.workspace_dir
    first_ms = _least_ms(lambda: _must_work(executor.execute_bash("true", here)), 2 if quick else 4)
    executor.close()
    return {"first_ms": first_ms}


def floor(quick: bool) -> Figures:
    """srt for what a sandbox costs, and no sandbox for what a block costs."""
    from agentd_executor_srt.executor import SandboxRuntimeExecutor
    from agentd_executor_subprocess.executor import SubprocessExecutor

    figures = _opened(lambda: SandboxRuntimeExecutor(Path.cwd() / "started", srt_path=CLI), quick)
    figures["ready_ms"] = figures["first_ms"]
    return figures | _blocks(SubprocessExecutor(Path.cwd() / "plain"), quick)

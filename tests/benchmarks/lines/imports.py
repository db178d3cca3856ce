"""`import agentd` in a fresh interpreter.

Ours and theirs: the statement alone, timed inside the new process, with the process's RSS and the
number of modules afterwards.
Floor: the same with a statement that imports nothing, so memory and modules are the interpreter's own.
The row "every public name" resolves what a program may import from the package, the OpenAI SDK's types
among it (for 0.8.6 that is the same statement as the first: it imports everything at once)."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

from benchmarks.line import Figures, Line, Row

LINE = Line(
    name="imports",
    rows=(
        Row(key="import_ms", title="import agentd", unit="ms", ratio=40),
        Row(key="rss_mib", title="  memory after it (RSS)", unit="MiB", limit=40),
        Row(key="modules", title="  modules loaded", unit=""),
        Row(key="heavy", title="  of openai litellm mcp pydantic rich yaml", unit="", limit=0),
        Row(key="names_ms", title="  every name of the 0.8 API", unit="ms"),
    ),
    rounds=2,
)

PROGRAM = """
import json, sys, time
begin = time.perf_counter()
{statement}
took = (time.perf_counter() - begin) * 1000
rss = next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmRSS:")) / 1024
heavy = sum(name in sys.modules for name in ("openai", "litellm", "mcp", "pydantic", "rich", "yaml"))
print(json.dumps([took, rss, len(sys.modules), heavy]))
"""
NAMES = (
    "from agentd import patch_openai_with_ptc, display_events, display_events_async, "
    "TextDelta, CodeExecution, TurnEnd, tool, ConversationLog"
)


def _cold(statement: str, count: int) -> list[float]:
    """Run the statement in `count` fresh interpreters and return the medians of its four figures."""
    program = PROGRAM.format(statement=statement)
    runs = []
    for _ in range(count):
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
        runs.append(json.loads(done.stdout.splitlines()[-1]))
    return [statistics.median(column) for column in zip(*runs, strict=True)]


def _figures(count: int) -> Figures:
    took, rss, modules, heavy = _cold("import agentd", count)
    return {
        "import_ms": took,
        "rss_mib": rss,
        "modules": modules,
        "heavy": heavy,
        "names_ms": _cold(NAMES, max(1, count // 2))[0],
    }


def ours(quick: bool) -> Figures:
    """Many starts: they are short."""
    return _figures(5 if quick else 15)


def theirs(quick: bool) -> Figures:
    """Few starts: each takes seconds."""
    return _figures(1 if quick else 2)


def floor(quick: bool) -> Figures:
    """The bare interpreter."""
    _, rss, modules, heavy = _cold("pass", 5)
    return {"rss_mib": rss, "modules": modules, "heavy": heavy}

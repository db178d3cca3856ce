"""The process of a side: answers requests, one JSON line each, on a pipe of its own. `worker.py SIDE`.

    {"row": "fresh", "quick": true, "within_s": 12}  ->  {"figures": {"fresh_ms": 0.3}, "words": {}}
                                                         {"figures": {}, "lacks": "it has no shell"}
                                                         {"figures": {}, "error": "RuntimeError: ..."}
                                                         {"figures": {}, "error": "not done ...", "stuck": true}

The first line says what it is: {"ready": {"packages": {...}, "python": "3.11.7"}}. It ends with its input.
What the side's own code prints goes to standard error.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import os
import platform
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])  # not this folder: it would shadow top-level names

from benchmarks.kit import scratch  # noqa: E402

from rivals.rows import measured  # noqa: E402
from rivals.sides import load  # noqa: E402


async def _serve(name: str, answers: int) -> None:
    side = load(name)

    def answer(value: object) -> None:
        os.write(answers, json.dumps(value).encode() + b"\n")

    await side.prepare()
    versions = {package: importlib.metadata.version(package) for package in side.packages}
    answer({"ready": {"packages": versions, "python": platform.python_version()}})
    loop = asyncio.get_running_loop()
    try:
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            request = json.loads(line)
            answer(await measured(side, request["row"], request["quick"], request["within_s"]))
    finally:
        await side.unprepare()


def main() -> None:
    """Serve until the input ends. Threads that a side cannot end are left to the process's own end."""
    answers = os.dup(1)
    os.dup2(2, 1)  # sides print
    with scratch():
        asyncio.run(_serve(sys.argv[1], answers))
        sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()

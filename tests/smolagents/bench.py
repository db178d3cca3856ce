"""What a step costs through agentd-smolagents: `.cache/envs/smolagents/bin/python tests/smolagents/bench.py`."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
from agentd.registry import Registry
from agentd.types import PythonAction
from agentd_smolagents import AgentdPythonExecutor
from smolagents.local_python_executor import LocalPythonExecutor

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from adapter_bench import compare

STEP = "x = 1\nprint('hi')"
WORK = "t = 0\nfor i in range(20_000):\n    t += i * i % 7\nprint(t)"
CALLS = "for i in range(20):\n    add(i, 1)"


def add(a: int, b: int) -> int:
    return a + b


def later(function: Callable[[], object]) -> Callable[[], Awaitable[object]]:
    async def call() -> object:
        return function()

    return call


async def main(name: str) -> None:
    kept = Registry().create_executor(name, tempfile.mkdtemp(), state="kept")
    local = LocalPythonExecutor([])
    local.send_tools({"add": add})
    with AgentdPythonExecutor(name) as ours:
        ours.send_tools({"add": add})
        for title, code in (("a step", STEP), ("20,000 rounds of a loop", WORK)):
            await compare(
                f"{title}, {name}",
                {
                    "executor, a kept Python block": later(
                        lambda code=code: kept.run_sync(PythonAction(code=code))
                    ),
                    "agentd-smolagents": later(lambda code=code: ours(code)),
                    "smolagents' local executor": later(lambda code=code: local(code)),
                },
                rounds=20,
            )
        await compare(
            f"20 calls of a tool, {name}",
            {
                "agentd-smolagents": later(lambda: ours(CALLS)),
                "smolagents' local executor": later(lambda: local(CALLS)),
            },
        )
    kept.close()


anyio.run(main, sys.argv[1] if len(sys.argv) > 1 else "native")

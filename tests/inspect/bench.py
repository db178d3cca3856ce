"""What a command costs through agentd-inspect: `.cache/envs/inspect/bin/python tests/inspect/bench.py [EXECUTOR]`."""

from __future__ import annotations

import os
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import anyio
from agentd.registry import Registry
from agentd.types import BashAction, PythonAction
from agentd_inspect import AgentdSandboxConfig, AgentdSandboxEnvironment
from agentd_inspect.environment import PYTHON_TOOL
from inspect_ai.util._sandbox.local import LocalSandboxEnvironment

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from adapter_bench import compare

os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # the same python3 for all

BASH = ["bash", "-c", "echo hi"]
PYTHON = ["python3", "-c", "print('hi')"]


async def main(name: str) -> None:
    ours = AgentdSandboxEnvironment(AgentdSandboxConfig(executor=name))
    executor = Registry().create_executor(name, tempfile.mkdtemp())
    local = LocalSandboxEnvironment()
    await compare(
        f"bash, {name}",
        {
            "executor, a bash block": partial(executor.run, BashAction(command="echo hi")),
            "agentd-inspect": partial(ours.exec, BASH),
            "Inspect's local sandbox": partial(local.exec, BASH, concurrency=False),
        },
    )
    await compare(
        f"Python, {name}",
        {
            "executor, a Python block": partial(executor.run, PythonAction(code="print('hi')")),
            "agentd-inspect": partial(ours.exec, PYTHON),
            "Inspect's local sandbox": partial(local.exec, PYTHON, concurrency=False),
        },
    )
    code: dict[str, Any] = {"cmd": PYTHON_TOOL, "input": "print('hi')"}
    await compare(
        f"Inspect's tool `python`, {name}",
        {
            "executor, a Python block": partial(executor.run, PythonAction(code="print('hi')")),
            "agentd-inspect": partial(ours.exec, **code),
            "Inspect's local sandbox": partial(local.exec, **code, concurrency=False),
        },
    )
    await executor.aclose()
    await ours.sandbox.aclose()


anyio.run(main, sys.argv[1] if len(sys.argv) > 1 else "native")
